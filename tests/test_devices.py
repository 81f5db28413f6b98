"""Every part of the zoo on a GPU that is not there: PyTorch's fake tensors know shapes and devices, and hold no values.

What a forward or backward pass makes on the CPU by mistake meets a tensor of the GPU and is refused, as CUDA would.
"""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from genzoo.config import build
from genzoo.evaluation.branches import BranchDiagnostics
from genzoo.evaluation.evaluate import _images
from genzoo.evaluation.generate import encode
from genzoo.evaluation.work import Work
from genzoo.features import clip, inception
from genzoo.files import sha256
from genzoo.model import Model, ModelConfig
from genzoo.registry import DECODERS, ENCODERS, FEATURES, HEADS, LATENTS, OBJECTIVES, SAMPLERS
from genzoo.samplers.learned import LearnedSampler
from genzoo.stage_two.learned import LearnedStep
from genzoo.training.config import OptimizerConfig
from genzoo.training.log import Rows
from genzoo.training.optimizer import make_optimizer
from genzoo.training.step import Step

SIZE = (3, 16, 16)
HEAD_OPTIONS = [
    *({"name": name} for name in HEADS.names()),
    {"name": "split", "sigma_per_color": True, "decoder": "mlp"},
    {"name": "split", "trunk": "pair", "decoders": ["conv", "mlp"], "sigma_decoder": "mlp"},
]
OBJECTIVE_OPTIONS = [
    *({"name": name} for name in OBJECTIVES.names()),
    {"name": "elbo", "gamma": "fixed", "beta_warmup": 5},
    {"name": "elbo", "gamma": "learned"},
    {"name": "elbo", "gamma": "optimal", "free_bits": 0.1},
    {"name": "elbo", "reconstruction": "bce"},
    {"name": "elbo", "reconstruction": "l1"},
]


@pytest.fixture
def gpu(monkeypatch):
    """Within it tensors are fake. Values are unknown, so all are said to be finite."""
    monkeypatch.setattr(torch.Tensor, "backward", _backward)  # PyTorch's engine wants a driver
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda x: np.True_)
    monkeypatch.setattr(torch.Tensor, "item", lambda x: 0)
    with FakeTensorMode(
        allow_non_fake_inputs=True, shape_env=ShapeEnv(allow_dynamic_output_shape_ops=True)
    ):  # what a part made on the CPU and keeps in no buffer stays there
        yield torch.device("cuda:0")


def moved(module: nn.Module) -> nn.Module:
    """What `module.to("cuda")` is: `to` itself cannot put fake tensors in the place of others."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                    tensors[name] = nn.Parameter(made, tensor.requires_grad) if tensors is part._parameters else made
    return module


def _backward(loss: torch.Tensor) -> None:
    """`loss.backward()`, node after node."""
    order, seen = [], set()

    def visit(node) -> None:
        if node is not None and node not in seen:
            seen.add(node)
            for following, _ in node.next_functions:
                visit(following)
            order.append(node)

    visit(loss.grad_fn)
    gradients = {loss.grad_fn: {0: torch.ones_like(loss)}}
    for node in reversed(order):
        given = [None] * len(node._input_metadata)
        for i, gradient in gradients.pop(node, {}).items():
            wanted = node._input_metadata[i]
            assert gradient.device == wanted.device, f"{node} gets a gradient on {gradient.device}"
            given[i] = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
        if hasattr(node, "variable"):  # a leaf
            node.variable.grad = given[0]
            continue
        made = node(*given)
        for gradient, (following, i) in zip(
            made if isinstance(made, tuple) else (made,), node.next_functions, strict=False
        ):
            if following is not None and gradient is not None:
                before = gradients.setdefault(following, {})
                before[i] = before[i] + gradient if i in before else gradient


def check_gradients(module: nn.Module, *made: torch.Tensor) -> None:
    assert all(tensor.device == torch.device("cuda:0") for tensor in made)
    sum(tensor.float().square().sum() for tensor in made).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("name", ENCODERS.names())
def test_encoder(name, gpu):
    encoder = moved(build(ENCODERS, ENCODERS.get(name).Config(name=name), in_shape=SIZE))
    check_gradients(encoder, encoder(torch.empty(4, *SIZE, device=gpu)))


@pytest.mark.parametrize("name", DECODERS.names())
def test_decoder(name, gpu):
    decoder = moved(build(DECODERS, DECODERS.get(name).Config(name=name), in_shape=(6,), out_shape=SIZE))
    check_gradients(decoder, decoder(torch.empty(4, 6, device=gpu)))


@pytest.mark.parametrize("name", LATENTS.names())
def test_latent(name, gpu):
    latent = moved(build(LATENTS, LATENTS.get(name).Config(name=name), in_shape=(6,)))
    posterior = latent(torch.empty(4, 6, device=gpu))
    z = posterior.sample()
    made = [getattr(posterior, name)(z) for name in ("kl", "log_prob") if hasattr(posterior, name)]
    check_gradients(latent, latent.expand(z), posterior.mean, posterior.variance, *made)


def make_model(head: dict) -> Model:
    return Model(ModelConfig.model_validate({"encoder": "conv", "head": head}), SIZE)


class Alone:
    """In the place of an Accelerator."""

    def reduce(self, tensor, how):
        return tensor


@pytest.mark.parametrize("head", HEAD_OPTIONS, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVE_OPTIONS[:1], ids=str)
def test_training_step(head, objective, gpu):
    train(make_model(head), objective, gpu)


@pytest.mark.parametrize("objective", OBJECTIVE_OPTIONS[1:], ids=str)
def test_objective(objective, gpu):
    train(make_model({"name": "single", "decoder": "mlp"}), objective, gpu)


def train(model: Model, objective: dict, gpu: torch.device) -> None:
    objective = OBJECTIVES.get(objective["name"]).Config.model_validate(objective)
    step = moved(Step(model, build(OBJECTIVES, objective, image_shape=SIZE), channels_last=True))
    optimizer, rows, clock = make_optimizer(step, OptimizerConfig()), Rows(None), torch.zeros((), device=gpu)
    terms = step(torch.empty(4, *SIZE[1:], 3, dtype=torch.uint8, device=gpu), clock)
    assert all(term.device == gpu for term in terms.values())  # fake numbers of the CPU would pass below
    terms["loss"].backward()
    rows.add_part(terms)
    assert rows.end_step(nn.utils.clip_grad_norm_(step.parameters(), 1.0)).device == gpu
    optimizer.step()


@pytest.mark.parametrize("name", [name for name in SAMPLERS.names() if issubclass(SAMPLERS.get(name), LearnedSampler)])
def test_learned_sampler(name, monkeypatch, request):
    sampler = build(SAMPLERS, SAMPLERS.get(name).Config(name=name, steps=1, batch_size=8), latent_shape=(4,))
    gpu = request.getfixturevalue("gpu")  # a network may be made from values, fake ones have none
    terms = moved(LearnedStep(sampler, name, 1))(torch.empty(8, 2, 4, device=gpu), torch.zeros((), device=gpu))
    assert all(term.device == gpu for term in terms.values())
    assert sampler.draw(5, torch.Generator()).device == gpu


@pytest.mark.parametrize("head", HEAD_OPTIONS, ids=str)
def test_evaluation(head, gpu):
    """Latents and features are the CPU's, what makes them is the GPU's."""
    model = moved(make_model(head)).eval()
    posterior = encode(model, np.zeros((5, *SIZE[1:], 3), np.uint8), Work(gpu, 5))
    assert [tensor.device.type for tensor in posterior] == ["cpu", "cpu"]
    split = BranchDiagnostics()
    made = list(_images(model, posterior[0], Work(gpu, 5), split))
    assert len(made) == 1 and all(image.device == gpu for _, parts in made for image in parts.values())
    assert all(value.device.type == "cpu" for value in split._sums.values())


@pytest.mark.parametrize("name", FEATURES.names())
def test_features(name, monkeypatch, tmp_path, request):
    options, tower = {}, "test_vit.r160_in1k"
    if "weights" in FEATURES.get(name).Config.model_fields:  # small networks of random weights
        options["weights"] = tmp_path / "weights.safetensors"
        save_file(timm.create_model(tower).state_dict(), options["weights"])
        layers = nn.Sequential(nn.Conv2d(3, 4, 9, stride=9), nn.AdaptiveAvgPool2d(1))
        monkeypatch.setattr(inception, "_torchscript_net", lambda path: nn.ModuleDict({"layers": layers}))
        monkeypatch.setattr(clip, "MODEL", tower)
        monkeypatch.setattr(inception, "trusted", {sha256(options["weights"])})
        options |= {"model": tower} if name == "timm" else {}
    features = build(FEATURES, FEATURES.get(name).Config(name=name, **options))
    gpu = request.getfixturevalue("gpu")
    moved(features)
    for channels in (1, 4):
        made = features(torch.empty(2, channels, 40, 30, dtype=torch.uint8, device=gpu))
        assert made.device == gpu and made.shape == (2, features.dim) and made.dtype == torch.float32
