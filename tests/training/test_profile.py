import json

import pytest
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent

from genzoo.training.profile import table


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


class OnGPU:
    """What a profiler has recorded of two steps: on a GPU, each stage and step comes once more, as the device saw it."""

    def __init__(self):
        names = [(f"ProfilerStep#{n}", 100 * n, 100) for n in range(2)] + [("forward", 100 * n, 60) for n in range(2)]
        self.recorded = EventList(
            FunctionEvent(id, name, 0, start, start + length, device_type=device, is_user_annotation=True, stack=[])
            for device in (DeviceType.CPU, DeviceType.CUDA)
            for id, (name, start, length) in enumerate(names)
        )
        self.recorded._build_tree()

    def events(self):
        return self.recorded

    def key_averages(self):
        return self.recorded.key_averages()


def test_the_table_counts_the_hosts_time_alone():
    lines = [line.split()[:3] for line in table(OnGPU()).splitlines()[1:3]]
    assert lines == [["forward", "0.060", "60.0%"], ["rest", "0.040", "40.0%"]]
