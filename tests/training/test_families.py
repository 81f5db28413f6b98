"""A run of any family that goes on is the undisturbed one, bit for bit: codebooks, critics and their moments included."""

import numpy as np
import pytest
import torch

from genzoo.config import build
from genzoo.model import Model, ModelConfig
from genzoo.registry import OBJECTIVES, TERMS
from genzoo.training import checkpoint
from genzoo.training.config import TrainConfig
from genzoo.training.step import Step
from genzoo.training.trainer import train

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1), dtype=np.uint8)
SHAPE = (1, 16, 16)
DECODER = {"name": "conv", "base_dim": 4}
CRITIC = {"name": "adversarial", "critic": {"name": "conv", "base_dim": 4}, "r1": 1.0, "lr": 2e-3, "start": 2}
FAMILIES = {
    "adversarial split VQ": (
        {"name": "vq", "num_codes": 8, "dim": 4},
        {"name": "split", "decoder": DECODER},
        "ae",
        [CRITIC],
    ),
    "ladder": ({"name": "ladder", "dim": 2}, {"name": "single", "decoder": DECODER}, "elbo", []),
    "learned prior": ({"name": "gaussian", "dim": 4}, {"name": "single", "decoder": DECODER}, "elbo", []),
}


def made(family: str, folder, steps: int, seed: int, **options) -> Step:
    latent, head, objective, terms = FAMILIES[family]
    prior = {"name": "vamp", "num_pseudo_inputs": 3} if family == "learned prior" else None
    tree = {"encoder": {"name": "conv", "base_dim": 4}, "latent": latent, "prior": prior, "head": head}
    torch.manual_seed(seed)
    step = Step(
        Model(ModelConfig.model_validate(tree), SHAPE),
        build(OBJECTIVES, OBJECTIVES.get(objective).Config(name=objective), image_shape=SHAPE),
        {t["name"]: build(TERMS, TERMS.get(t["name"]).Config.model_validate(t), image_shape=SHAPE) for t in terms},
    )
    config = TrainConfig(steps=steps, batch_size=10, precision="fp32", log_every=2, ema=0.9, clip_grad_norm=5.0)
    train(step, IMAGES, config, folder=folder, seed=3, **options)
    return step


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_goes_on_is_the_undisturbed_one(family, tmp_path):
    made(family, tmp_path / "whole", 9, 0)
    made(family, tmp_path / "parts", 5, 0)
    made(family, tmp_path / "parts", 9, 1, resume=True)  # other first weights: all must come from the checkpoint
    whole, parts = (checkpoint.newest(tmp_path / name) for name in ("whole", "parts"))
    groups = sorted(file.name for file in whole.glob("*.safetensors"))
    assert groups == sorted(file.name for file in parts.glob("*.safetensors")) and len(groups) >= 4
    for group in groups:
        one, other = (checkpoint.read_tensors(path, group.removesuffix(".safetensors")) for path in (whole, parts))
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), (group, name)
