"""What a recipe decides, nothing outside it does."""

import re
from pathlib import Path

import accelerate
import pytest

from genzoo.errors import UserError
from genzoo.launch import LAUNCHER, launched

PLACES = {"ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE"}  # where a run is
REFUSED = {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"}  # in words


def names():
    """Every variable of its own that accelerate's source reads."""
    found = set()
    for file in Path(accelerate.__file__).parent.rglob("*.py"):
        found |= set(re.findall(r"ACCELERATE_[A-Z0-9_]*[A-Z0-9]", file.read_text(encoding="utf-8")))
    return found | {f"ACCELERATE_DYNAMO_{word}" for word in ("BACKEND", "MODE", "USE_FULLGRAPH", "USE_DYNAMIC")}


def test_no_variable_of_accelerates_changes_a_training(tmp_path, run, monkeypatch):
    model = run(tmp_path / "plain", steps=6, grad_accumulation=2)[0]
    chosen = {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_MIXED_PRECISION": "bf16"}
    free = names() - PLACES - REFUSED
    assert {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", *chosen} <= free
    for name in free:
        monkeypatch.setenv(name, chosen.get(name, "4"))
    moved = run(tmp_path / "moved", steps=6, grad_accumulation=2)[0].state_dict()
    assert all(tensor.equal(moved[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("left", [{"RANK": "0"}, {"LOCAL_RANK": "0"}, {"WORLD_SIZE": "2", "RANK": "0"}], ids=str)
def test_what_a_launcher_left_over_is_named_with_the_remedy(monkeypatch, left):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"{next(iter(left))}.* without .*MASTER_PORT.*`unset .*torchrun"):
        launched()
