"""The benchmarks' short forms run, and say what the tables are made from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def measured(tmp_path, name, *words):
    out = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *(words or ["--short"]), "--out", str(out)],
        capture_output=True, text=True,
    )  # fmt: skip
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


@pytest.mark.long
def test_stage_two(tmp_path):
    result = measured(tmp_path, "stage_two.py")
    assert result["steps"].keys() == result["processes"].keys() == {"flow_matching", "dit", "autoregressive"}
    assert all(row["to_bare"] > 0 for row in result["steps"].values())
    assert all(row["times_faster"] > 0 for row in result["processes"].values())


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for memory in /proc")
def test_memory_is_bounded_whatever_the_number_of_posteriors(tmp_path):
    """Ten times as many posteriors take ten times the disk, and hardly more memory, on one process and on two."""
    rows = measured(tmp_path, "latents.py", "--posteriors", "6000", "60000")
    assert [(row["num"], row["processes"]) for row in rows] == [(6000, 1), (6000, 2), (60000, 1), (60000, 2)]
    for few, many in zip(rows[:2], rows[2:], strict=True):
        assert many["disk_bytes"] == pytest.approx(60000 * 2 * 4 * 16 * 16 * 4, rel=1e-4)
        for name in ("encoded", "flow_matching", "1,000 samples"):  # `gmm` holds its max_fit of 20,000
            assert many["peak_bytes"][name] < few["peak_bytes"][name] + 2**26


def test_fields_tells_what_differs(tmp_path):
    score = {"metric": "fd", "features": "a", "generator": "prior", "part": "y", "value": 1.5}
    other = {**score, "part": "y1", "value": 2.5}
    files = {"old": [score, other], "turned": [other, score], "near": [{**score, "value": 1.5 + 1e-12}, other],
             "fewer": [score], "whole": [{**score, "value": 1}, other]}  # fmt: skip
    for name, scores in files.items():
        (tmp_path / name).write_text(json.dumps({"name": "run", "scores": scores}))

    def said(new, *words):
        command = [sys.executable, str(ROOT / "benchmarks" / "fields.py"), tmp_path / "old", tmp_path / new, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.stderr
        return done.returncode, done.stdout.splitlines()

    assert said("turned") == (0, ["0 of 11 fields differ"])  # told apart by name, not by place
    assert said("near") == (1, ["scores.fd/a/prior/y.value: 1.5 -> 1.500000000001", "1 of 11 fields differ"])
    assert said("near", "--tolerance", "1e-9")[0] == 0 and said("near", "--leave-out", "*.value")[0] == 0
    assert said("whole", "--tolerance", "0.1")[0] == 1
    code, lines = said("fewer")
    assert code == 1 and len(lines) == 6 and "scores.fd/a/prior/y1.value: 2.5 -> absent" in lines
