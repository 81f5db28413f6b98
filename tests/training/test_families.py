"""A run of any family that goes on is the undisturbed one, bit for bit: codebooks, critics and their moments included."""

import pytest
import torch

from genzoo.training import checkpoint


@pytest.mark.parametrize("family", ["adversarial split VQ", "ladder", "learned prior"])
def test_a_run_that_goes_on_is_the_undisturbed_one(family, run, tmp_path):
    settings = {"family": family, "clip_grad_norm": 5.0, "log_every": 2}
    run(tmp_path / "whole", steps=9, **settings)
    run(tmp_path / "parts", steps=5, **settings)
    run(tmp_path / "parts", steps=9, model_seed=1, resume=True, **settings)  # all must come from the checkpoint
    whole, parts = (checkpoint.newest(tmp_path / name) for name in ("whole", "parts"))
    groups = sorted(file.name for file in whole.glob("*.safetensors"))
    assert groups == sorted(file.name for file in parts.glob("*.safetensors")) and len(groups) >= 4
    for group in groups:
        one, other = (checkpoint.read_tensors(path, group.removesuffix(".safetensors")) for path in (whole, parts))
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), (group, name)
