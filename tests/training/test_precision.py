import json

import pytest
import torch

from genzoo.errors import UserError
from genzoo.training import state
from genzoo.training.precision import measure, resolve
from genzoo.training.step import Step


def test_measuring_leaves_no_trace(toy):
    step = Step(*toy, channels_last=True).train()
    before = {name: tensor.clone() for name, tensor in step.state_dict().items()}
    seconds = measure(step, torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8), torch.zeros((), dtype=torch.int64))
    assert set(seconds) == {"fp32", "bf16"} and min(seconds.values()) > 0
    assert all(tensor.equal(before[name]) for name, tensor in step.state_dict().items())
    assert all(parameter.grad is None for parameter in step.parameters())


def test_bf16_has_to_be_faster(monkeypatch, toy):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    clock = torch.zeros((), dtype=torch.int64)
    for bf16, chosen in ((1.0, "fp32"), (0.95, "fp32"), (0.8, "bf16")):
        seconds = {"fp32": 1.0, "bf16": bf16}
        monkeypatch.setattr("genzoo.training.precision.measure", lambda *_, seconds=seconds: seconds)
        assert resolve("auto", None, iter([None]), clock, 1) == {"precision": chosen, "seconds": seconds}
    assert resolve("auto", None, iter([None]), clock, 2) == {"precision": "fp32"}
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert resolve("auto", None, iter([None]), clock, 1) == {"precision": "fp32"}


def test_fp16_needs_a_gpu():
    with pytest.raises(UserError, match="fp16 needs a CUDA GPU"):
        resolve("fp16", None, iter([]), torch.zeros(()), 1)


def test_the_choice_is_written_down_and_kept_by_a_resumed_run(tmp_path, run, monkeypatch):
    answers = iter(["bf16", "fp32", "fp32"])
    monkeypatch.setattr(state, "resolve", lambda *_: {"precision": next(answers)})
    assert run(tmp_path, precision="auto")[2]["precision"] == "bf16"
    assert json.loads((tmp_path / "precision.json").read_text())["precision"] == "bf16"
    assert run(tmp_path, precision="auto", resume=True, steps=22)[2]["precision"] == "bf16"
    assert run(tmp_path, precision="fp32", resume=True, steps=24)[2]["precision"] == "fp32"
