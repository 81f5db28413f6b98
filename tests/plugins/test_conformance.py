"""genzoo's own parts keep their contracts, and the kit finds those who do not."""

from __future__ import annotations

import re

import pytest

from genzoo.config import config_of
from genzoo.errors import UserError
from genzoo.plugin_files import load_file
from genzoo.registry import KINDS
from genzoo.testing import assembled, conformance, examine, images, latents, learning, networks, options, samplers
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject
from genzoo.testing.wiring import WIRINGS, accepted

SMALL = {
    "encoders/resnet": {"base_dim": 4, "num_scales": 3, "embed_dim": 8},
    "encoders/conv": {"base_dim": 4},
    "encoders/mlp": {"hidden_dims": [8]},
    "encoders/timm": {"model": "test_resnet"},
    "encoders/vit": {"embed_dim": 12, "depth": 2},
    "encoders/convnext": {"base_dim": 4, "depth": 1},
    "decoders/resnet": {"base_dim": 2},
    "decoders/conv": {"base_dim": 2},
    "decoders/mlp": {"hidden_dims": [8]},
    "latents/gaussian": {"dim": 3},
    "samplers/autoregressive": {"steps": 20, "batch_size": 32, "hidden_dim": 16, "num_layers": 1, "num_heads": 2},
    "samplers/maskgit": {"steps": 20, "batch_size": 32, "hidden_dim": 16, "num_layers": 1, "num_heads": 2},
    "latents/vmf": {"dim": 5},
    "latents/ladder": {"dim": 2, "width": 4},
    "latents/vq": {"num_codes": 8, "dim": 3, "num_positions": 4},
    "latents/rvq": {"num_codes": 8, "dim": 3, "num_positions": 4, "num_levels": 2},
    "latents/fsq": {"levels": [5, 4], "num_positions": 4},
    "latents/lfq": {"num_bits": 4, "num_positions": 4},
    "priors/mog": {"num_components": 3},
    "priors/vamp": {"num_pseudo_inputs": 3},
    "heads/single": {"decoder": {"name": "conv", "base_dim": 2}},
    "heads/split": {"decoder": {"name": "conv", "base_dim": 2}},
    "heads/mixture": {"decoder": {"name": "conv", "base_dim": 2}},
    "samplers/gmm": {"num_components": 3},
    "samplers/two_stage": {"hidden_dim": 8, "steps": 20},
    "samplers/flow": {"hidden_dim": 8, "num_transforms": 2, "steps": 20},
    "samplers/flow_matching": {"hidden_dim": 8, "steps": 20, "num_solver_steps": 4},
    "datasets/faces": {"num_train": 20, "num_test": 8, "size": 32},
}
ELSEWHERE = {
    *("features/inception", "features/clip", "features/timm"),
    *("datasets/mnist", "datasets/fashion_mnist", "datasets/cifar10", "datasets/celeba"),
}
PARTS = [f"{kind}/{name}" for kind, registry in KINDS.items() for name in registry.entries]


@pytest.mark.parametrize("part", sorted({*PARTS} - ELSEWHERE))  # those need a download; their own tests do without
def test_own_parts_keep_the_contract(part):
    kind, _, name = part.partition("/")
    small = SMALL.get(part, {})
    conformance(part, small, backend="eager")
    if kind in WIRINGS:  # of the usual sizes, genzoo's own refuse none
        config = config_of(KINDS[kind], name).model_validate({**small, "name": name})
        assert accepted(Subject(KINDS[kind], name, config, "eager")) == WIRINGS[kind]


RETURN = "return self.layer(features)"
LAYER = "self.layer = FromFeatures(in_shape, out_shape)"
# check: (edits of the decoder MINE, what was expected, what was seen)
DECODERS = {
    options.described: ([(', description="nothing"', "")], "description=", "none for dim"),
    options.frozen: (
        [("class Config(Config):", "class Config(Config, extra='allow'):")],
        "extra='forbid'",
        "'extra': 'allow'",
    ),
    networks.shapes: (
        [(RETURN, "return self.layer(features)[:, :1]")],
        r"\(3, 3, 32, 32\) as output of in_shape=\(6,\)",
        r"\(3, 1, 32, 32\)",
    ),
    networks.finite: ([(RETURN, "return self.layer(features) / 0")], "finite values", "3072 of 3072|9216 of 9216"),
    networks.value_range: ([(RETURN, RETURN + ".sigmoid()")], "unbounded logits", r"within \[-1, 1\]"),
    networks.features_matter: (
        [(RETURN, RETURN + " * 0 + self.layer.linear.bias.view(self.layer.out_shape)")],
        "another image for other features",
        "the same",
    ),
    networks.gradients: (
        [(LAYER, LAYER + "; self.unused = nn.Linear(2, 2)")],
        "a gradient for every parameter",
        "none for unused.weight, unused.bias",
    ),
    networks.bfloat16: (
        [(RETURN, "y = self.layer(features); return y + 1e3 - 1e3 if y.dtype is not torch.float32 else y"),
         ("from torch import nn", "import torch\nfrom torch import nn")],
        "within 20% of the float32 result",
        r"\d+% away",
    ),
    networks.batch_independence: (
        [(RETURN, "return self.layer(features - features.mean(0))")],
        r"the same output alone and in a batch of 3, after \.eval\(\)",
        "apart",
    ),
    networks.determinism: (
        [(RETURN, "return self.layer(features + torch.randn(1))"),
         ("from torch import nn", "import torch\nfrom torch import nn")],
        "in eval mode, twice",
        "apart",
    ),
    networks.state_dict: (
        [(LAYER, LAYER + "; self.offset = torch.randn(())"), (RETURN, RETURN + " + self.offset"),
         ("from torch import nn", "import torch\nfrom torch import nn")],
        "the same output after the round trip",
        "apart",
    ),
    networks.channels: (
        [(LAYER, LAYER + "\n        if out_shape[0] == 7: raise ValueError('no sevens')")],
        "all of 1, 3 and 7 channels at 32x32",
        "no sevens",
    ),
    assembled.in_heads: (
        [(RETURN, "return self.layer(features)[:, :4]")],
        "a decoder that works in heads/split",
        "makes",
    ),
}  # fmt: skip


def subject(path, kind: str = "decoders") -> Subject:
    load_file(path)
    config = config_of(KINDS[kind], "mine").model_validate({"name": "mine"})
    return Subject(KINDS[kind], "mine", config, "aot_eager")


@pytest.mark.parametrize("check", DECODERS, ids=lambda check: check.__name__)
def test_broken_decoders_are_found(check, edited):
    edits, expected, seen = DECODERS[check]
    mine = subject(edited(*edits))
    with pytest.raises(Mismatch) as error:
        check(mine)
    assert re.search(expected, error.value.expected), error.value.expected
    assert re.search(seen, error.value.seen), error.value.seen
    assert re.search(r"mine\.py:\d+$", mine.where(error.value))


@pytest.mark.parametrize(
    ("check", "edits"),
    [
        (networks.meta, [("return self.layer(features)", "return self.layer(features) * features.sum().item()")]),
        (networks.meta, [("return self.layer(features)", "return self.layer(features + torch.ones(6))"),
                         ("from torch import nn", "import torch\nfrom torch import nn")]),
        (networks.meta, [(LAYER, LAYER + "; self.offset = torch.ones(6)"),
                         ("return self.layer(features)", "return self.layer(features + self.offset)"),
                         ("from torch import nn", "import torch\nfrom torch import nn")]),
        (networks.channels_last, [(LAYER, "self.layer = nn.Conv2d(3, out_shape[0], 1)"),
                                  (RETURN, "x = features.view(len(features), -1); return self.layer(features)")]),
    ],
)  # fmt: skip
def test_errors_point_into_the_part(check, edits, edited):
    mine = subject(edited(*edits))
    with pytest.raises(Exception) as error:
        check(mine)
    assert re.search(r"mine\.py:\d+$", mine.where(error.value))


def test_a_part_of_another_class_of_kinds(edited):
    """A head outside [0, 1], an in-place change of the input, tied weights that safetensors refuses to save."""
    head = [
        ('DECODERS.register("mine")', 'HEADS.register("mine")'),
        ("in_shape, out_shape):", "in_shape, image_shape):"),
        (LAYER, "self.layer = FromFeatures(in_shape, image_shape)"),
        (RETURN, "return genzoo.Composition(self.layer(features))"),
    ]
    with pytest.raises(Mismatch, match=r"expected image in \[0, 1\]"):
        networks.value_range(subject(edited(*head), "heads"))
    KINDS["heads"].forget({"mine"})
    changed = edited((RETURN, "return self.layer(features.mul_(2))"), name="changed.py")
    with pytest.raises(Mismatch, match="left as it was"):
        networks.finite(subject(changed))
    KINDS["decoders"].forget({"mine"})
    tied = edited((LAYER, LAYER + "; self.twin = self.layer"), name="tied.py")
    with pytest.raises(RuntimeError, match="share memory"):
        networks.state_dict(subject(tied))


LATENT = '''import genzoo
import torch
from genzoo.config import Config
from genzoo.densities import DiagonalGaussian
from genzoo.latents.gaussian import GaussianLatent


class Posterior(DiagonalGaussian):
    def sample(self, generator=None):
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.variance.sqrt() * noise


@genzoo.LATENTS.register("mine")
class Mine(GaussianLatent):
    """Gaussian."""

    class Config(GaussianLatent.Config):
        pass

    def forward(self, features):
        posterior = super().forward(features)
        return Posterior(posterior.mean, posterior.logvar)
'''
OBJECTIVE = '''import genzoo
import torch
from genzoo.config import Config


@genzoo.OBJECTIVES.register("mine")
class Mine(torch.nn.Module):
    """Squared error."""

    class Config(Config):
        pass

    def __init__(self, config, image_shape):
        super().__init__()
        self.count = 0.0

    def forward(self, made, x, step, model):
        mse = (made.composition.image - x).square().mean()
        kl = model.kl(made.posterior, made.z).flatten(1).sum(1).mean()
        loss = mse + kl
        return {"loss": loss, "mse": mse.detach(), "kl": kl.detach()}
'''
SAMPLER = '''import genzoo
import torch
from genzoo.config import Config


@genzoo.SAMPLERS.register("mine")
class Mine(torch.nn.Module):
    """Noise about the mean of the posteriors."""

    class Config(Config):
        pass

    needs_fit = True

    def __init__(self, config, latent_shape):
        super().__init__()
        self.latent_shape = latent_shape

    def fit(self, mean, variance, seed):
        self.mean = mean.mean(0)

    def sample(self, num, generator):
        return self.mean + torch.randn(num, *self.latent_shape, generator=generator)
'''
DATASET = '''import genzoo
import numpy as np
from genzoo.config import Config


@genzoo.DATASETS.register("mine")
class Mine:
    """Noise."""

    class Config(Config):
        pass

    splits = ("train", "test")
    image_shape = (3, 8, 8)

    def __init__(self, config):
        pass

    def locate(self):
        return {"source": "noise"}

    def read(self, split, start=0):
        images = np.random.RandomState(len(split)).randint(0, 256, (4, 8, 8, 3), np.uint8)
        yield images[start:]
'''
DRAW = "return self.mean + self.variance.sqrt() * noise"
ONE_BY_ONE = """for _ in range(max(0, 5 - start)):
            yield np.zeros((1, 8, 8, 3), np.uint8)
        for image in images[max(0, start - 5) :]:
            yield image[None]"""


@pytest.mark.parametrize(
    ("text", "check", "old", "new", "message"),
    [
        (OBJECTIVE, learning.loss, "mse.detach()", "mse", "a graph behind 'loss' alone"),
        (OBJECTIVE, learning.loss, 'return {"loss": loss, ', "return {", "with the key 'loss'"),
        (OBJECTIVE, learning.loss, "mse + ", "(mse - mse).log() + ", "a finite 0-d tensor as loss at step 0"),
        (
            OBJECTIVE,
            learning.reaches_the_model,
            "mse + ",
            "mse.detach() + ",
            "every parameter of the model",
        ),
        (OBJECTIVE, learning.kl_per_image, ".sum(1).mean()", ".sum()", r"the sum of model\.kl\(posterior, z\)"),
        (OBJECTIVE, learning.learns, "mse + kl", "2 * mse.detach() - mse", "a loss below its first"),
        (OBJECTIVE, learning.evaluation_mode, "mse + ", "mse * self.tick() + ", "the same loss twice"),
        (OBJECTIVE, learning.objective_state, "mse + ", "mse * self.tick() + ", "keep what changes in buffers"),
        (OBJECTIVE, learning.objective_bfloat16, "loss, ", "loss.bfloat16(), ", "a float32 loss"),
        (LATENT, networks.gradients, DRAW, f"with torch.no_grad(): {DRAW}", "through `sample` alone"),
        (LATENT, latents.moments, "variance.sqrt()", "variance", "1000 draws with the variance"),
        (LATENT, latents.moments, "self.mean + ", "2 * self.mean + ", "1000 draws with the mean"),
        (SAMPLER, samplers.state, "", "", "after the round trip|mean"),
        (SAMPLER, samplers.unfitted, "", "", "UserError|mean"),
        (SAMPLER, samplers.draws, "generator=generator)", "generator=generator).double()", "float32"),
        (SAMPLER, samplers.determinism, ", generator=generator)", ")", "the same samples from the same seed"),
        (DATASET, images.describes_itself, '("train", "test")', '("test",)', "splits that start with 'train'"),
        (DATASET, images.describes_itself, "(3, 8, 8)", "(8, 8, 3)", "1 to 4 channels"),
        (DATASET, images.identifies_its_source, '"noise"', "str(np.random.rand())", "the same identification"),
        (DATASET, images.reads, "(4, 8, 8, 3)", "(4, 3, 8, 8)", r"uint8 \(n, 8, 8, 3\); seen: uint8 \(4, 3, 8, 8\)"),
        (DATASET, images.reads, "0, 256", "0, 2", "must be scaled|scale images"),
        (DATASET, images.fixed_order, "len(split)", "None", "in the same order each time"),
        (DATASET, images.reads, "uint8)", "uint8)[:0]", "images in the split 'train'"),
        (DATASET, images.fixed_order, "len(split)", "0", "other images in 'test' than in 'train'"),
        (DATASET, images.goes_on, "images[start:]", "images", r"read\('train', start=1\) to begin with image 1"),
    ],
)
def test_broken_parts_of_other_kinds_are_found(text, check, old, new, message, own_plugins, tmp_path):
    assert old in text
    if "tick" in new:
        text += "\n    def tick(self):\n        self.count += 1.0\n        return self.count\n"
    (tmp_path / "mine.py").write_text(text.replace(old, new) if old else text)
    kind = next(kind for kind in KINDS if f"{kind.upper()}.register" in text)
    with pytest.raises(Exception) as error:
        check(subject(tmp_path / "mine.py", kind))
    assert not isinstance(error.value, DoesNotApply)
    assert re.search(message, str(error.value)), error.value


@pytest.mark.parametrize(
    "text",
    [
        LATENT,
        OBJECTIVE,
        DATASET,
        DATASET.replace("yield images[start:]", ONE_BY_ONE),
        DATASET.replace("split, start=0", "split").replace("[start:]", ""),
    ],
    ids=["latent", "objective", "dataset", "blank images one by one", "no start"],
)
def test_sound_parts_of_other_kinds_pass(text, own_plugins, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    load_file(tmp_path / "mine.py")
    kind = next(kind for kind in KINDS if f"{kind.upper()}.register" in text)
    conformance(f"{kind}/mine")


def test_a_decoder_that_begins_at_zero_passes(edited):
    layer = "self.layer.linear"
    path = edited((LAYER, f"{LAYER}; nn.init.zeros_({layer}.weight); nn.init.zeros_({layer}.bias)"))
    networks.features_matter(subject(path))


def test_a_dataset_that_streams_passes(tmp_path):
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    random = np.random.RandomState(0)
    with tarfile.open(tmp_path / "w.tar", "w") as tar:
        for i in range(40):
            file = io.BytesIO()
            Image.fromarray(random.randint(0, 256, (8, 8, 3), np.uint8)).save(file, "png")
            member = tarfile.TarInfo(f"{i:03}.png")
            member.size = file.tell()
            tar.addfile(member, io.BytesIO(file.getvalue()))
    results = list(examine("datasets/webdataset", {"root": str(tmp_path / "w.tar"), "size": 8, "stream": True}))
    assert {result.outcome for result in results} == {"passed"}, [result.to_text() for result in results]


def test_the_command_says_what_where_and_goes_on(edited, call):
    path = edited((RETURN, "return self.layer(features).tanh()"))
    code, out, _ = call("check", path)
    assert code == 1
    assert "decoders/mine\n" in out and "1 of 18 checks failed" in out
    assert "expected unbounded logits (the head applies the sigmoid)" in out
    assert "seen     within [-1, 1] for any weights" in out
    assert re.search(rf"see      {re.escape(str(path))}:\d+", out)
    with pytest.raises(AssertionError, match=r"decoders/mine fails 1 checks"):
        conformance("decoders/mine")


def test_wrong_names_and_options_are_explained():
    with pytest.raises(UserError, match="did you mean 'resnet'"):
        list(examine("decoders/resnt"))
    with pytest.raises(UserError, match=r"decoders/resnet does not take these options: base_dimm: unknown option; did"):
        list(examine("decoders/resnet", {"base_dimm": 3}))
    with pytest.raises(UserError, match="'resnet' is not KIND/NAME"):
        list(examine("resnet"))


def test_a_validator_that_fails_is_explained(edited):
    validator = "\n\n        @model_validator(mode='after')\n        def look(self):\n            return {}['gone']"
    field = 'dim: int = Field(8, description="nothing")'
    load_file(edited((field, field + validator), ("import Field", "import Field, model_validator")))
    with pytest.raises(UserError, match=r"the Config of decoders/mine fails: KeyError: 'gone' \(.*mine\.py:\d+\)"):
        list(examine("decoders/mine"))


def test_an_option_whose_values_sound_like_a_part_is_described(edited):
    path = edited(
        ('dim: int = Field(8, description="nothing")', "extent: Literal['partial', 'whole'] = 'whole'"),
        ("import genzoo\n", "from typing import Literal\n\nimport genzoo\n"),
    )
    with pytest.raises(Mismatch, match="none for extent"):
        options.described(subject(path))
