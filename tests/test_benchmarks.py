"""The benchmarks' short forms run, and say what the tables are made from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def measured(tmp_path, name):
    out = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), "--short", "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.long
def test_training(tmp_path):
    result = measured(tmp_path, "training.py")
    rows = {row["trainer"]: row for row in result["training"]}
    assert {"genzoo", "bare"} <= rows.keys() and rows["bare"]["to_bare"] == 1
    for row in rows.values():
        assert row["images_per_s"] > 0 and row["peak_bytes"] > 1e8 and len(row["turns"]) == result["rounds"]
    assert rows["genzoo"]["num_parameters"] == rows["bare"]["num_parameters"]
    assert result["feeds"]["32px"]["genzoo"] > result["feeds"]["32px"]["torchvision, 2 workers"]


@pytest.mark.long
def test_options(tmp_path):
    for rows in measured(tmp_path, "options.py")["cases"].values():
        assert rows["defaults"]["to_defaults"] == 1 and all(row["images_per_s"] > 0 for row in rows.values())
