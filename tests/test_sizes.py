"""Encoders and decoders take images of any size, and those of sizes that always fitted are the networks they were."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from genzoo.config import build, config_of
from genzoo.errors import UserError
from genzoo.layers import cropped, doublings, padded
from genzoo.registry import DECODERS, ENCODERS

RECORDED = Path(__file__).with_name("recorded_networks.json")
SMALL = {
    "encoders": [
        {"name": "resnet", "base_dim": 4, "num_scales": 3, "embed_dim": 8},
        {"name": "conv", "base_dim": 4, "max_dim": 16},
        {"name": "mlp", "hidden_dims": [8, 6]},
        {"name": "timm", "model": "test_resnet"},
        {"name": "timm", "model": "test_convnext"},
        {"name": "timm", "model": "test_vit"},
    ],
    "decoders": [
        {"name": "resnet", "base_dim": 2, "max_dim": 8},
        {"name": "conv", "base_dim": 2, "max_dim": 8},
        {"name": "mlp", "hidden_dims": [8, 6]},
    ],
}
ENCODED = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 32, 48), (3, 33, 35), (1, 16, 70)]
DECODED = [*ENCODED[:4], (1, 4, 4), (2, 7, 28), (3, 8, 8), (3, 80, 96), (1, 5, 20)]
CASES = [
    *(
        ("encoders", options, {"in_shape": size})
        for options in SMALL["encoders"]
        for size in (ENCODED if options.get("model", "test_resnet") == "test_resnet" else [(3, 64, 64), (1, 64, 96)])
    ),
    *(
        ("decoders", options, {"in_shape": (6,), "out_shape": size})
        for options in SMALL["decoders"]
        for size in DECODED
    ),
]
REGISTRIES = {"encoders": ENCODERS, "decoders": DECODERS}


def key_of(case) -> str:
    kind, options, wiring = case
    return f"{kind} {' '.join(map(str, options.values()))} {'x'.join(map(str, [*wiring.values()][-1]))}"


def network(kind, options, wiring):
    registry = REGISTRIES[kind]
    torch.manual_seed(0)
    return build(registry, registry.get(options["name"]).Config.model_validate(options), **wiring)


def description(case) -> dict:
    """What identifies a network: the names and shapes of its state, and sums of what it makes in training."""
    part, x = network(*case), torch.rand(3, *case[2]["in_shape"], generator=torch.Generator().manual_seed(1))
    names = "".join(f"{name} {tuple(value.shape)}\n" for name, value in part.state_dict().items())
    with torch.no_grad():
        made = part(x).double()
    waves = torch.sin(torch.arange(made.numel())).view_as(made)
    return {
        "state": sha256(names.encode()).hexdigest()[:16],
        "num_parameters": sum(p.numel() for p in part.parameters()),
        "shape": list(made.shape),
        "sums": [round(value.item(), 6) for value in (made.sum(), made.abs().sum(), (made * waves).sum())],
    }


@pytest.mark.parametrize("case", CASES, ids=key_of)
def test_networks_are_what_they_were(case):
    made, recorded = description(case), json.loads(RECORDED.read_text())[key_of(case)]
    sums, before = made.pop("sums"), recorded.pop("sums")
    assert made == recorded
    assert sums == pytest.approx(before, rel=1e-3, abs=1e-3 * abs(before[1]))


sizes = st.tuples(st.sampled_from([1, 3]), st.integers(8, 70), st.integers(8, 70))
encoders = st.sampled_from(
    [
        *SMALL["encoders"][:5],
        {"name": "resnet", "base_dim": 4, "embed_dim": 6, "num_scales": 2, "out": "map"},
        {"name": "conv", "base_dim": 4, "num_scales": 2},
        {"name": "conv", "base_dim": 4, "out": "vector"},
        {"name": "timm", "model": "test_resnet", "out": "map", "reduction": 8},
        {"name": "vit", "embed_dim": 12, "depth": 1},
        {"name": "vit", "embed_dim": 12, "depth": 1, "patch_size": 8, "out": "map"},
        {"name": "convnext", "base_dim": 4, "depth": 1},
        {"name": "convnext", "base_dim": 4, "depth": 1, "num_scales": 2, "out": "map"},
    ]
)


@settings(max_examples=60, deadline=None)
@given(encoders, st.sampled_from(SMALL["decoders"]), sizes)
def test_any_size_goes_in_and_comes_back(encoder, decoder, size):
    encode = network("encoders", encoder, {"in_shape": size})
    decode = network("decoders", decoder, {"in_shape": encode.out_shape, "out_shape": size})
    features = encode(torch.rand(2, *size))
    assert tuple(features.shape[1:]) == encode.out_shape
    made = decode(features)
    assert made.shape == (2, *size)
    made.square().sum().backward()
    for part in (encode, decode):
        assert not [name for name, p in part.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@given(st.integers(8, 400), st.integers(8, 400))
def test_the_start_is_the_smallest_that_encloses_the_image(height, width):
    *start, num = doublings(height, width)
    assert 4 <= min(start) <= 7
    assert all(0 <= (side << num) - given < 1 << num for side, given in zip(start, (height, width), strict=True))


@given(st.integers(8, 400), st.integers(8, 400), st.lists(st.booleans(), min_size=1, max_size=7))
def test_a_map_is_a_start_whichever_way_its_sides_were_rounded(height, width, up):
    """As strided layers make them, those with padding (up) and those without."""
    sides = [height, width]
    for way in up:
        sides = [max((side + way) // 2, 1) for side in sides]
    if sides == [1, 1]:  # as good as a vector
        return
    *start, num = doublings(height, width, (3, *sides))
    assert all(0 <= due - side <= 1 for due, side in zip(start, sides, strict=True))
    assert all(side << num >= given for side, given in zip(start, (height, width), strict=True))


def test_a_map_enters_a_decoder_by_a_small_convolution():
    torch.manual_seed(0)
    config = DECODERS.get("resnet").Config(name="resnet", base_dim=4)
    decode = build(DECODERS, config, in_shape=(512, 16, 16), out_shape=(3, 64, 64))
    assert decode.start.conv.weight.shape == (16, 512, 1, 1)
    assert [m.stride for m in decode.scales if isinstance(m, torch.nn.ConvTranspose2d)] == [(2, 2)] * 2
    # what changes in a corner of the map changes that corner of the image
    x = torch.randn(1, 512, 16, 16)
    changed = x.clone()
    changed[:, :, :2, :2] = 0
    rows, columns = torch.nonzero((decode.eval()(x) != decode(changed)).any(1)[0], as_tuple=True)
    assert rows.max() < 40 and columns.max() < 40 and rows.min() == columns.min() == 0


def test_maps_that_fit_no_start_are_flattened_when_small_and_refused_when_large():
    for name in ("resnet", "mlp"):
        config = DECODERS.get(name).Config(name=name)
        build(DECODERS, config, in_shape=(3, 2, 3), out_shape=(3, 64, 64))
        with pytest.raises(UserError, match=r"decoders/.*a dense layer from a map of 512x31x20 .* million weights"):
            build(DECODERS, config, in_shape=(512, 31, 20), out_shape=(3, 64, 64))


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (10, 10)])
def test_the_surplus_is_cut_on_both_sides(size):
    x = torch.arange(12 * 12).view(1, 1, 12, 12)
    made = cropped(x, *size)
    assert made.shape[2:] == size
    over = [12 - side for side in size]
    assert made[0, 0, 0, 0] == 12 * (over[0] // 2) + over[1] // 2
    assert torch.equal(cropped(padded(made, 12, 12), *size), made)


@pytest.mark.parametrize("kind", ["encoders", "decoders"])
def test_sizes_of_networks_are_bounded(kind):
    for name in (name for name, entry in REGISTRIES[kind].entries.items() if entry.owner == "genzoo"):
        config = config_of(REGISTRIES[kind], name)
        for option, field in config.model_fields.items():
            if field.annotation in (int, float, int | None):
                with pytest.raises(ValidationError, match="less than or equal"):
                    config.model_validate({"name": name, option: 10**9})
        if name == "mlp":
            with pytest.raises(ValidationError, match="less than or equal"):
                config.model_validate({"name": name, "hidden_dims": [10**9]})
        if (kind, name) == ("encoders", "resnet"):
            with pytest.raises(ValidationError, match="131072 channels: at most 16384"):
                config.model_validate({"name": name, "base_dim": 1024, "num_scales": 8})


if __name__ == "__main__":  # to record anew, which only a change of the networks themselves calls for
    lines = [f"{json.dumps(key_of(case))}: {json.dumps(description(case))}" for case in CASES]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
