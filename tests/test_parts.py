"""Parts assembled into a model: what fits goes round, what does not is refused in words."""

from __future__ import annotations

import pytest
import torch

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.heads.split import SplitHead
from genzoo.latents.gaussian import GaussianLatent
from genzoo.model import Model, ModelConfig
from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.registry import ENCODERS, HEADS, LATENTS
from genzoo.tracing import trace


def within(head: str, decoder: dict) -> dict:
    """A head's options with that decoder where its image comes from."""
    wraps = "head" in HEADS.get(head).Config.model_fields
    return {"head": {"name": "single", "decoder": decoder}} if wraps else {"decoder": decoder}


@pytest.mark.parametrize("head", HEADS.names())
@pytest.mark.parametrize("size", [(1, 16, 16), (3, 32, 32)])
def test_model_round(head, size):
    """Encode, decode, eval-mode independence of the batch, and the state dict's way out and back."""
    options = {
        "encoder": {"name": "resnet", "base_dim": 4, "num_scales": 3, "embed_dim": 8},
        "latent": {"name": "gaussian", "dim": 3},
        "head": {"name": head, **within(head, {"name": "resnet", "base_dim": 2})},
        "batch_norm_momentum": 0.3,
    }
    model = Model(ModelConfig.model_validate(options), size)
    assert {m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.3}
    x = torch.rand(4, *size)
    made = model(x)
    posterior, composition = made.posterior, made.composition
    assert composition.image.shape == x.shape
    model.eval()
    whole, alone = model.encode(x).mean, model.encode(x[:1]).mean
    torch.testing.assert_close(whole[:1], alone, rtol=1e-4, atol=1e-5)
    other = Model(ModelConfig.model_validate(options), size).eval()
    other.load_state_dict(model.state_dict())
    z = posterior.sample()
    assert torch.equal(other.decode(z).image, model.decode(z).image)
    for wrong in (x[0], x[:, :, 1:], x.repeat(1, 2, 1, 1), (255 * x).byte()):
        with pytest.raises(ValueError, match=f"takes floating-point images .*, b x {size[0]} x {size[1]}.*; got"):
            model.encode(wrong)
    with pytest.raises(ValueError, match="takes latents, b x 3; got"):
        model.decode(torch.randn(4, 5))


@pytest.mark.parametrize(("size", "dim", "expected"), [((1, 32, 32), 32, 12_793_667), ((3, 64, 64), 150, 28_981_683)])
def test_published_parameter_counts(size, dim, expected):
    """arXiv 2202.02738's TensorFlow networks for MNIST and CelebA."""
    with torch.device("meta"):
        model = Model(ModelConfig.model_validate({"latent": {"name": "gaussian", "dim": dim}}), size)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("kind", ["resnet", "conv"])
@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((1, 3, 3), "images of 3x3 are too small: at least 8x8"),
        ((1, 300, 7), "images of 300x7 are too small: at least 8x8"),
    ],
)
def test_impossible_sizes_are_refused_in_words(kind, size, reason):
    options = {"encoder": {"name": "mlp"}, "head": {"name": "single", "decoder": {"name": kind}}}
    with pytest.raises(UserError, match=rf"decoders/{kind} cannot be built.*{reason}"):
        trace(ModelConfig.model_validate(options), size)


def test_unknown_timm_model_is_named():
    with pytest.raises(UserError, match="no model 'resnet81'; did you mean 'resnet18'"):
        build(ENCODERS, ENCODERS.get("timm").Config(name="timm", model="resnet81"), in_shape=(3, 32, 32))


def test_wrong_shape_is_refused_by_trace():
    class Liar(torch.nn.Module):
        from genzoo.config import Config

        def __init__(self, config, in_shape):
            super().__init__()
            self.out_shape = (7,)

        def forward(self, x):
            return x.flatten(1)

    ENCODERS.register("liar")(Liar)
    try:
        with pytest.raises(UserError, match=r"encoders/liar makes shape \(64,\), but \(7,\) was due"):
            trace(ModelConfig.model_validate({"encoder": "liar"}), (1, 8, 8))
    finally:
        ENCODERS.forget({"liar"})


@pytest.mark.parametrize("model", ["mobilenetv3_small_050", "vgg11", "ghostnet_050"])
def test_timm_networks_with_a_head_of_their_own(model):
    trace(ModelConfig.model_validate({"encoder": {"name": "timm", "model": model}}), (3, 32, 32))


def test_what_a_latent_expands_to_is_the_latents_own():
    class Liar(GaussianLatent):
        def expand(self, z):
            return z[:, :-1]

    LATENTS.register("liar")(Liar)
    try:
        with pytest.raises(UserError, match=r"latents/liar expanded makes shape \(\d+,\), but"):
            trace(ModelConfig.model_validate({"latent": "liar"}), (1, 32, 32))
        Liar.expand = lambda self, z: z / None
        with pytest.raises(UserError, match=r"latents/liar fails on 1x32x32 images"):
            trace(ModelConfig.model_validate({"latent": "liar"}), (1, 32, 32))
    finally:
        LATENTS.forget({"liar"})


def test_maps_have_the_size_of_the_image():
    class Flat(SplitHead):
        def forward(self, features):
            made = super().forward(features)
            made.maps = {name: weights[:, 0] for name, weights in made.maps.items()}
            return made

    HEADS.register("flat")(Flat)
    try:
        with pytest.raises(UserError, match=r"heads/flat sigma makes shape \(32, 32\), but \(1, 32, 32\) was due"):
            trace(ModelConfig.model_validate({"head": "flat"}), (1, 32, 32))
    finally:
        HEADS.forget({"flat"})


def test_batch_norm_refuses_images_that_come_alone():
    recipe = read("svae_digits", ["train.batch_size=8", "train.grad_accumulation=8"])
    with pytest.raises(UserError, match=r"encoders/resnet fails on .* that come alone .*more than 1 value per channel"):
        build_parts(recipe)
