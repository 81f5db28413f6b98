"""docs/plugins.md, run as it is written, with genzoo installed from its wheel in an empty folder.

The wheel is the one that `python -m build` makes, from the sdist.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL))


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run bash lines in an empty folder, in an environment that has genzoo's wheel and this one's other packages."""
    folder = tmp_path_factory.mktemp("walk")
    wheels = folder / "wheels"
    pytest.importorskip("build", reason="the extra dev is not installed")
    subprocess.run([sys.executable, "-m", "build", "--outdir", wheels, ROOT], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(site.strip()) / "other_packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *wheels.glob("*.whl")], check=True)
    (folder / "here").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}", "GENZOO_CACHE": str(folder / "cache")}

    def run(lines: str) -> str:
        done = subprocess.run(
            ["bash", "-euxc", lines], cwd=folder / "here", env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    run.folder = folder / "here"
    return run


@pytest.mark.long
def test_the_wheel_has_what_a_command_needs(shell):
    where = shell("python -c 'import genzoo; print(genzoo.__file__)'")
    assert str(ROOT) not in where
    assert "svae_digits" in shell("genzoo recipes ls")
    assert "decoders/resnet" in shell("genzoo list")
    assert "wrote wheel_head" in shell("genzoo new head wheel_head")
    assert "Commands:" in shell("genzoo --help")
    shell("genzoo run svae_digits train.steps=2 samplers=[prior] evaluation.num_samples=4 --out two_steps")
    assert (shell.folder / "two_steps" / "metrics.json").is_file()


@pytest.mark.long
def test_the_walk(shell):
    out = shell(COMMANDS)
    assert re.search(r"decoders/mine +genzoo-mine 0\.1\.0 +Nearest-neighbour", out)
    assert "checks, none failed" in out and "2 passed" in out
    assert "  ok      decoders/mine" in out
    for run in ("mine_digits", "svae_digits", "pair"):
        metrics = json.loads((shell.folder / "runs" / run / "metrics.json").read_text())
        scored = {(score["generator"], score["part"]) for score in metrics["scores"] if score["value"] is not None}
        assert {("prior", part) for part in ("y", "y1", "y2")} <= scored
        lock = json.loads((shell.folder / "runs" / run / "lock.json").read_text())
        assert lock["plugins"] == {"decoders/mine": "genzoo-mine 0.1.0"}
    assert "model.head.trunk" in out
    assert "decoders.mine" in json.loads((shell.folder / "genzoo.schema.json").read_text())["$defs"]


def test_the_commands_of_the_walk_exist():
    from genzoo.cli import cli

    for line in COMMANDS.splitlines():
        words = line.split()
        if words[:1] == ["genzoo"]:
            assert words[1] in cli.commands, line
