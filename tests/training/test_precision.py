import json

import pytest
import torch

from genzoo.errors import UserError
from genzoo.training import state
from genzoo.training.precision import resolve

CPU = torch.device("cpu")


@pytest.mark.parametrize(("amx", "avx512"), [(False, False), (True, False), (False, True)])
def test_auto_goes_by_what_the_cpu_has(monkeypatch, amx, avx512):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert resolve("auto", CPU) == ("bf16" if amx or avx512 else "fp32")
    assert resolve("fp32", CPU) == "fp32" and resolve("bf16", CPU) == "bf16"
    assert resolve("auto", torch.device("mps")) == "fp32"


def test_fp16_needs_a_gpu():
    with pytest.raises(UserError, match="fp16 needs a CUDA GPU"):
        resolve("fp16", CPU)


def test_the_choice_is_written_down_and_kept_by_a_resumed_run(tmp_path, run, monkeypatch):
    answers = iter(["bf16", "fp32", "fp32"])
    monkeypatch.setattr(state, "resolve", lambda *_: next(answers))
    assert run(tmp_path, precision="auto")[2]["precision"] == "bf16"
    assert json.loads((tmp_path / "precision.json").read_text())["precision"] == "bf16"
    assert run(tmp_path, precision="auto", resume=True, steps=22)[2]["precision"] == "bf16"
    assert run(tmp_path, precision="fp32", resume=True, steps=24)[2]["precision"] == "fp32"
