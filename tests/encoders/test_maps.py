"""Encoders that hand a map to the latent."""

import pytest
import torch

from genzoo.config import build, config_of
from genzoo.registry import ENCODERS
from genzoo.testing import conformance

OPTIONS = {
    "resnet": {"base_dim": 4, "num_scales": 3, "embed_dim": 8, "out": "map"},
    "conv": {"base_dim": 4, "num_scales": 2, "out": "vector"},  # a map is what it makes unasked
    "timm": {"model": "test_resnet", "out": "map"},
    "vit": {"embed_dim": 12, "depth": 2, "out": "map"},
    "convnext": {"base_dim": 4, "depth": 1, "out": "map"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_keeps_the_contract(name):
    conformance(f"encoders/{name}", OPTIONS[name], backend="eager")


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet", {"num_scales": 3, "embed_dim": 10}, (10, 8, 4)),
        ("conv", {}, (16, 8, 4)),
        ("conv", {"num_scales": 2}, (8, 16, 8)),
        ("timm", {"model": "test_resnet", "reduction": 8}, (48, 8, 4)),
        ("vit", {"patch_size": 8, "embed_dim": 12}, (12, 8, 4)),
        ("convnext", {"num_scales": 2}, (8, 8, 4)),
    ],
)
def test_options_decide_the_size(name, options, expected):
    config = config_of(ENCODERS, name)
    small = {"base_dim": 4, "depth": 1}
    small = {key: value for key, value in small.items() if key in config.model_fields}
    part = build(ENCODERS, config.model_validate({"name": name, "out": "map"} | small | options), in_shape=(3, 64, 32))
    assert part.out_shape == expected == tuple(part(torch.rand(2, 3, 64, 32)).shape[1:])


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_a_vector_is_the_mean_of_the_map(name):
    config, options = config_of(ENCODERS, name), {key: v for key, v in OPTIONS[name].items() if key != "out"}
    made = {}
    for out in ("vector", "map"):
        torch.manual_seed(0)
        part = build(ENCODERS, config(name=name, out=out, **options), in_shape=(3, 30, 44)).eval()
        made[out] = part(torch.rand(2, 3, 30, 44, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(made["vector"], made["map"].mean((2, 3)))
