"""What the README says is so: it is short, its commands are those of the docs' test, its numbers the committed ones."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import genzoo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short_and_gives_the_two_commands():
    assert len(README.splitlines()) <= 120
    assert "pip install -e . && genzoo run recipes/svae_digits.yaml" in README
    assert "pip install -e '.[test]' && pytest" in README  # .ci/run takes it from here


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_completion_finds_what_genzoo_offers():
    assert {"load", "fid", "Config", "Composition"} <= set(dir(genzoo))


def test_the_results_are_the_committed_ones():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    found = set()
    for path in readme.PAGES:
        text = path.read_text(encoding="utf-8")
        found |= {mark[2] for mark in readme.MARKS.finditer(text)}
        assert text == readme.written(text), f"{path}: run python benchmarks/readme.py"
    assert found == readme.TABLES.keys()
    assert "<!-- study flagship:" in README


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").rglob("metrics.json")), ids=str)
def test_committed_results_say_how_they_were_made(path):
    metrics = json.loads(path.read_text())
    assert metrics["protocol"] and metrics["scores"]
    assert not re.search(r'"/[a-z]+/', path.read_text()), "an absolute path"
