"""What the README says is so: its commands parse, its decoder trains, its numbers are the committed ones."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

import genzoo
from genzoo.cli import cli
from genzoo.recipe import read
from genzoo.run import build_parts, run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"genzoo (?:run|sample|eval|show|list|recipes|fid|new|check)\b[^`\n#&]*", README)))
DECODER = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "@genzoo.DECODERS" in block)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_and_their_recipes_are_valid(command, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    _, name, *words = shlex.split(command)
    options = cli.commands[name].make_context(name, [w for w in words if w != "--help"], resilient_parsing=True).params
    if name == "run":
        plugins = []
        if options["plugins"]:
            plugin = tmp_path / "my_decoder.py"
            plugin.write_text(DECODER)
            plugins = [str(plugin)]
        recipe = read(options["recipe"], options["overrides"], tuple(plugins))
        if recipe.data.name != "folder":
            build_parts(recipe)


def test_the_decoder_of_the_readme_trains_a_split_vae(tmp_path):
    plugin = tmp_path / "my_decoder.py"
    plugin.write_text(DECODER.replace('"mine"', '"test_readme/mine"'))
    words = [
        "model.head.decoder.name=test_readme/mine", "model.encoder.base_dim=2", "train.steps=2", "train.batch_size=8",
        "samplers=[prior]", "evaluation.num_samples=4", "evaluation.num_reference=4",
    ]  # fmt: skip
    metrics = run(read("svae_digits", words, (str(plugin),)), tmp_path / "run")
    assert {entry["part"] for entry in metrics["scores"]} == {"y", "y1", "y2", "mix"}


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "genzoo.run" in block)
    words = ["train.steps=2", "train.batch_size=8", "samplers.1.num_components=2", "evaluation.metrics=[]"]
    assert '["train.steps=500"]' in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace('["train.steps=500"]', str(words)), made := {})
    assert made["metrics"]["name"] == "svae_digits" and made["about"]["sampler_name"] == "gmm"
    assert sum(map(len, made["batches"])) == 100
    assert {"load", "Config", "Composition"} <= set(dir(genzoo))  # found by completion, too


def test_the_results_are_the_committed_ones():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    found = set()
    for path in (ROOT / "README.md", readme.RESULTS / "README.md"):
        text = path.read_text(encoding="utf-8")
        found |= {mark[2] for mark in readme.MARKS.finditer(text)}
        assert text == readme.written(text), f"{path}: run python benchmarks/readme.py"
    assert found == readme.TABLES.keys()
    for image in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / image).is_file(), image


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").rglob("metrics.json")), ids=str)
def test_committed_results_say_how_they_were_made(path):
    metrics = json.loads(path.read_text())
    assert metrics["protocol"] and metrics["scores"]
    assert not re.search(r'"/[a-z]+/', path.read_text()), "an absolute path"
