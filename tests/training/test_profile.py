import json

import pytest


def test_a_profiled_run_says_where_its_time_went_and_trains_the_same(tmp_path, run):
    settings = {"steps": 30, "precision": "fp32"}
    model = run(tmp_path / "profiled", profile=True, **settings)[0]
    rows = {}
    for line in (tmp_path / "profiled/profile/table.txt").read_text().splitlines()[1:7]:
        name, milliseconds, share = line.split()
        rows[name] = float(milliseconds), float(share.rstrip("%"))
    assert list(rows) == ["feed", "forward", "backward", "optimizer", "ema", "rest"]
    assert sum(share for _, share in rows.values()) == pytest.approx(100, abs=0.5)
    assert all(milliseconds > 0 for milliseconds, _ in rows.values())
    trace = json.loads((tmp_path / "profiled/profile/trace.json").read_text())["traceEvents"]
    names = [event.get("name", "") for event in trace]
    assert sum(name.startswith("ProfilerStep#") for name in names) >= 10 and "aten::convolution" in names
    plain = run(tmp_path / "plain", **settings)[0]
    assert all(weight.equal(plain.state_dict()[name]) for name, weight in model.state_dict().items())
    assert not (tmp_path / "plain/profile").exists()
