"""What a recipe decides, nothing outside it does."""

import re
from pathlib import Path

import accelerate
import pytest
import torch

from genzoo.errors import UserError
from genzoo.evaluation.generate import evaluating
from genzoo.launch import LAUNCHER, launched
from genzoo.numerics import full_float32

PLACES = {"ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE"}  # where a run is
REFUSED = {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"}  # in words


READ = re.compile(r"(?:environ(?:\.get|\.pop)?[\[(]|getenv\(|_from_env\()([^)]*)")
OTHERS = {  # of launchers, of other programs, of the machine
    *LAUNCHER, "FORK_LAUNCHED", "NODE_RANK", "NPROC", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME", "PATH", "HF_HOME",
    "PYTHONPATH", "LOCAL_WORLD_SIZE", "PYTEST_XDIST_WORKER", "HOME",
}  # fmt: skip


def names():
    """Every variable that accelerate's source reads."""
    found, prefixes, words = set(), {"ACCELERATE_DYNAMO_"}, set()
    for file in Path(accelerate.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r"ACCELERATE_[A-Z0-9_]*[A-Z0-9]", text))
        found |= {name for call in READ.findall(text) for name in re.findall(r"[\"']([A-Z][A-Z0-9_]+)[\"']", call)}
        prefixes |= set(re.findall(r"prefix = [\"']([A-Z0-9_]+_)[\"']", text))
        words |= set(re.findall(r"prefix \+ [\"']([A-Z0-9_]+)[\"']", text))
    return found | {prefix + word for prefix in prefixes for word in words}


def test_no_variable_of_accelerates_changes_a_training(tmp_path, run, monkeypatch):
    model = run(tmp_path / "plain", steps=6, grad_accumulation=2)[0]
    chosen = {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_MIXED_PRECISION": "bf16"}
    free = names() - PLACES - REFUSED - OTHERS
    assert {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "FSDP_OFFLOAD_PARAMS", "PMI_SIZE", *chosen} <= free
    for name in free:
        monkeypatch.setenv(name, chosen.get(name, "4"))
    moved = run(tmp_path / "moved", steps=6, grad_accumulation=2)[0].state_dict()
    assert all(tensor.equal(moved[name]) for name, tensor in model.state_dict().items())


def test_nothing_but_the_recipe_decides_how_exact_products_are(tmp_path, run):
    """A notebook's, or TORCH_ALLOW_TF32_CUBLAS_OVERRIDE's."""
    seen = []

    def look(*_):
        seen.append(torch.get_float32_matmul_precision())

    torch.set_float32_matmul_precision("medium")
    try:
        run(tmp_path / "run", steps=2, panel_every=1, panel=look)
        with full_float32(convolutions=True):
            look()
            assert not torch.backends.cudnn.allow_tf32
        with evaluating(torch.nn.Identity()):
            look()
        assert seen == ["highest"] * 4
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("left", [{"RANK": "0"}, {"LOCAL_RANK": "0"}, {"WORLD_SIZE": "2", "RANK": "0"}], ids=str)
def test_what_a_launcher_left_over_is_named_with_the_remedy(monkeypatch, left):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"{next(iter(left))}.* without .*MASTER_PORT.*`unset .*torchrun"):
        launched()
