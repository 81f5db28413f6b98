import threading

import pytest
import torch
from torch import nn

from genzoo import Config, budget
from genzoo.budget import memory, refuse, within_memory
from genzoo.config import build
from genzoo.errors import TooLarge, UserError
from genzoo.model import Model, ModelConfig
from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.registry import DECODERS, SAMPLERS
from genzoo.tracing import trace

GB = 10**9


@pytest.fixture
def small(monkeypatch):
    """A small machine."""
    monkeypatch.setattr(budget, "memory", lambda: GB)
    monkeypatch.setattr("genzoo.tracing.memory", lambda: GB)
    monkeypatch.setattr(budget, "MAX_OPERATIONS", 8000)


class Deep(nn.Module):
    class Config(Config):
        depth: int = 2
        width: int = 8
        loops: int = 1

    def __init__(self, config, in_shape, out_shape):
        super().__init__()
        self.loops, self.out_shape = config.loops, out_shape
        self.begin = nn.Linear(in_shape[0], config.width)
        self.layers = nn.Sequential(*(nn.Linear(config.width, config.width) for _ in range(config.depth)))
        self.end = nn.Linear(config.width, out_shape[0] * out_shape[1] * out_shape[2])

    def forward(self, x):
        x = self.begin(x.flatten(1))
        for _ in range(self.loops):
            x = self.layers(x)
        return self.end(x).view(len(x), *self.out_shape)


class Hungry(nn.Module):
    """A sampler that cannot be built on the meta device."""

    needs_fit = False

    class Config(Config):
        width: int = 4

    def __init__(self, config, latent_shape):
        super().__init__()
        torch.randn(2).tolist()
        self.layers = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(4))

    def sample(self, num, generator):
        return torch.zeros(num, 3)


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    for registry, name, part in ((DECODERS, "deep", Deep), (SAMPLERS, "hungry", Hungry)):
        registry.register(name)(part)
    yield
    DECODERS.forget({"deep"})
    SAMPLERS.forget({"hungry"})


def built(*words: str):
    return build_parts(read("vae_digits", words))


def deep(options: str) -> str:
    return f"model.head={{name: single, decoder: {{name: deep, {options}}}}}"


@pytest.mark.parametrize(
    ("words", "part", "remedy"),
    [
        (deep("depth: 6000"), "decoders/deep", "depth (6000; default 2)"),
        (deep("width: 60000"), "decoders/deep", "width (60000; default 8)"),
        (deep("loops: 6000"), "decoders/deep", "loops (6000; default 1)"),
        ("samplers=[{name: hungry, width: 60000}]", "samplers/hungry", "width (60000; default 4)"),
        ("samplers=[{name: gmm, num_components: 1000000}]", "samplers/gmm", "num_components (1000000; default 100)"),
        ("samplers=[{name: flow, hidden_dim: 16384}]", "samplers/flow", "hidden_dim 16384"),
        ("samplers=[{name: flow_matching, hidden_dim: 16384}]", "samplers/flow_matching", "hidden_dim (16384"),
        ("samplers=[{name: two_stage, hidden_dim: 16384}]", "samplers/two_stage", "hidden_dim (16384"),
        ("model.latent={name: vq, num_codes: 1000000, dim: 512}", "latents/vq", "num_codes (1000000; default 512)"),
        ("model.prior={name: vamp, num_pseudo_inputs: 65536}", "priors/vamp", "num_pseudo_inputs (65536; default 64)"),
        ("terms=[{name: adversarial, critic: {name: mlp, hidden_dims: [65536, 65536]}}]", "encoders/mlp", "hidden_dims"),
        ("evaluation.num_samples=1000000000", "evaluation.num_samples", "make fewer"),
        ("evaluation.batch_size=1000000", "evaluation.batch_size", "lower evaluation.batch_size"),
        ("samplers=[{name: flow_matching, hidden_dim: 1024, batch_size: 1048576}]", "flow_matching", "lower batch_size"),
    ],
)  # fmt: skip
def test_what_is_larger_than_the_machine_is_refused_before_it_is_built(small, words, part, remedy):
    with pytest.raises(UserError) as refused:
        built(words)
    assert part in str(refused.value) and remedy in str(refused.value) and len(str(refused.value)) < 400


def test_all_parts_of_a_model_share_the_memory(small):
    wide = "{name: mlp, hidden_dims: [11000, 11000]}"  # 0.5 GB each
    trace(read("vae_digits", [f"model.encoder={wide}"]).model, (1, 8, 8))
    with pytest.raises(UserError, match=r"decoders/mlp.*lower hidden_dims"):
        trace(read("vae_digits", [f"model.encoder={wide}", f"model.head.decoder={wide}"]).model, (1, 8, 8))


def test_a_batch_that_no_memory_holds_is_refused(small):
    from genzoo.tracing import refuse_large_training

    recipe = read("vae_digits")
    where = recipe.model, (1, 32, 32), recipe.objective, recipe.terms
    refuse_large_training(*where, 100, recomputed=False)
    refuse_large_training(*where, 10**6, recomputed=True)
    with pytest.raises(UserError, match=r"1,000,000 images keep.*lower train.batch_size"):
        refuse_large_training(*where, 10**6, recomputed=False)


def test_what_is_computed_at_once_counts_not_what_is_there_anyway(small):
    """Batches that fit are let pass, and a part's own large weight is not multiplied by the batch."""
    built("evaluation.batch_size=1000", "samplers=[{name: flow_matching, batch_size: 4096}]")
    built("evaluation.batch_size=2000", "model.encoder={name: mlp, hidden_dims: [8192, 8192]}")  # 270 MB of weights


def test_features_of_more_images_than_the_memory_holds_are_refused(small):
    from genzoo.evaluation.extraction import Rows

    with pytest.raises(UserError, match=r"1,280 features of 1,000,000 images.*score fewer"):
        Rows(10**6, 1280)


def test_a_mixture_that_no_memory_fits_is_refused(small):
    from genzoo.samplers.gmm import GMMSampler

    sampler = GMMSampler(GMMSampler.Config(name="gmm", num_components=9000), latent_shape=(2,))
    with pytest.raises(UserError, match=r"9,000 components on 10,000 posteriors would take 2.16 GB.*lower num_comp"):
        sampler.fit(torch.zeros(10_000, 2), torch.zeros(10_000, 2), seed=0)


def test_weights_are_the_same_within_the_budget():
    config = read("vae_digits").model
    model, parts = [], []
    for limit in (within_memory, torch.no_grad):  # the second is no budget at all
        torch.manual_seed(0)
        with limit():
            parts.append(torch.randn(3))
            model.append(Model(ModelConfig.model_validate(config.model_dump()), (1, 8, 8)))
    assert torch.equal(*parts)
    assert all(torch.equal(a, b) for a, b in zip(*(one.parameters() for one in model), strict=True))


def test_what_was_replaced_or_is_shared_counts_once(small):
    with within_memory() as found:
        for _ in range(5):
            layer = nn.Linear(11000, 11000, bias=False, device="meta")  # 0.5 GB, and gone with the next
        nn.ModuleList([layer]).shared = layer.weight
        layer.tied = layer.weight
        assert found.num_bytes <= GB
        with pytest.raises(TooLarge, match="weights and buffers"):
            layer.more = nn.Parameter(torch.empty(11000, 12000, device="meta"))


def test_budgets_of_threads_are_apart(small):
    """A large model of another thread is not this one's."""
    made = []
    with within_memory() as found:
        thread = threading.Thread(target=lambda: made.append(nn.Linear(11000, 11000, device="meta")))
        thread.start()
        thread.join()
        assert made and found.num_bytes == 0


def test_the_memory_is_what_the_process_may_have():
    assert 2**26 < memory() < 2**50
    refuse(memory(), "all of it", "take less")
    with pytest.raises(UserError, match=r"more of it would take .* of memory, and there are .*; take less"):
        refuse(memory() + 1, "more of it", "take less")


def test_a_part_with_its_defaults_names_what_it_is_given(small):
    with pytest.raises(
        UserError, match=r"decoders/mlp: .*it is built for in_shape=\(8,\), out_shape=\(3, 9000, 9000\)"
    ):
        build(DECODERS, DECODERS.get("mlp").Config(name="mlp"), in_shape=(8,), out_shape=(3, 9000, 9000))
