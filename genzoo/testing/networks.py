"""Checks of encoders, latents, decoders and heads: everything a trainer and an evaluator will ask of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.model import Model, ModelConfig
from genzoo.parts import Shape
from genzoo.registry import HEADS
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject, close

FEATURES: list[Shape] = [(6,), (3, 2, 2)]
IMAGES: list[Shape] = [(3, 32, 32), (1, 32, 32), (7, 32, 32), (2, 28, 28), (4, 32, 48), (3, 64, 64)]
WIRINGS: dict[str, list[dict[str, Shape]]] = {
    "encoders": [{"in_shape": image} for image in IMAGES],
    "latents": [{"in_shape": features} for features in [*FEATURES, (4, 4, 2)]],
    "decoders": [{"in_shape": features, "out_shape": image} for features in FEATURES for image in IMAGES],
    "heads": [{"in_shape": features, "image_shape": image} for features in FEATURES for image in IMAGES],
}
PARTNERS = {"resnet": {"base_dim": 2}, "conv": {"base_dim": 2}, "mlp": {"hidden_dims": [8]}}
BATCH = 3


def accepted(subject: Subject) -> list[dict[str, Shape]]:
    """The wirings that the part does not refuse; at least one at some size, with all numbers of channels."""
    refusals = [subject.refusal(**wiring) for wiring in WIRINGS[subject.kind]]
    kept = [wiring for wiring, refusal in zip(WIRINGS[subject.kind], refusals, strict=True) if not refusal]
    if not kept:
        raise Mismatch("a part that can be built for some of the usual sizes", refusals[0])
    return kept


def make(subject: Subject, **options: Any) -> tuple[nn.Module, Tensor]:
    """A part at the first wiring it accepts, and a batch for it."""
    wiring = next((wiring for wiring in WIRINGS[subject.kind] if not subject.refusal(**wiring)), None)
    if wiring is None:
        raise DoesNotApply("the part cannot be built for any of the usual sizes")
    return subject.build(**wiring, **options), batch(subject, wiring)


def batch(subject: Subject, wiring: dict[str, Shape]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if subject.kind == "encoders" else torch.randn
    return draw(BATCH, *wiring["in_shape"], generator=generator)


def outputs(subject: Subject, part: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Everything the part makes of a batch, by name."""
    made = part(x)
    if subject.kind == "latents":
        named = {"mean": made.mean, "variance": made.variance, "kl": made.kl(), "expand": part.expand(made.mean)}
    elif subject.kind == "heads":
        named = {"image": made.image, **made.parts}
    else:
        named = {"output": made}
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor):
            raise Mismatch(f"a tensor as {name}", type(tensor).__name__)
    return named


def declared(subject: Subject, part: Any, wiring: dict[str, Shape], name: str) -> tuple[Shape, ...]:
    """The shapes, without the batch, that an output may have."""
    if subject.kind == "encoders":
        return (part.out_shape,)
    if subject.kind == "latents":
        return (part.out_shape,) if name == "expand" else (part.shape,)
    if subject.kind == "decoders":
        return (wiring["out_shape"],)
    image = wiring["image_shape"]
    return (image,) if name == "image" else (image, (1, *image[1:]))


def shapes(subject: Subject) -> None:
    """Shapes: as declared, at several sizes and numbers of channels"""
    for wiring in accepted(subject):
        part = subject.build(**wiring)
        for name, tensor in outputs(subject, part, batch(subject, wiring)).items():
            allowed = declared(subject, part, wiring, name)
            if tuple(tensor.shape) not in [(BATCH, *shape) for shape in allowed]:
                raise Mismatch(
                    " or ".join(f"{(BATCH, *shape)}" for shape in allowed) + f" as {name} of {_words(wiring)}",
                    f"{tuple(tensor.shape)}",
                )


def channels(subject: Subject) -> None:
    """Sizes: one that is accepted is accepted with any number of channels, and refused sizes are refused in words"""
    key = {"encoders": "in_shape", "decoders": "out_shape", "heads": "image_shape"}[subject.kind]
    sizes: dict[Shape, list[str]] = {}
    for wiring in WIRINGS[subject.kind]:
        sizes.setdefault(wiring[key][1:], []).append(subject.refusal(**wiring))
    for (height, width), refusals in sizes.items():
        if any(refusals) and not all(refusals):
            raise Mismatch(f"all of 1, 3 and 7 channels at {height}x{width}", next(filter(None, refusals)))


def finite(subject: Subject) -> None:
    """Values: finite, float32, the input left as it was"""
    part, x = make(subject)
    before = x.clone()
    for name, tensor in outputs(subject, part, x).items():
        if not torch.isfinite(tensor).all():
            raise Mismatch(f"finite values as {name}", f"{(~torch.isfinite(tensor)).sum()} of {tensor.numel()} are not")
        if tensor.dtype != torch.float32:
            raise Mismatch(f"float32 as {name}", f"{tensor.dtype}")
    if not torch.equal(x, before):
        raise Mismatch("an input that is left as it was: other parts are given the same", "it was changed in place")


def value_range(subject: Subject) -> None:
    """Range: logits from decoders, [0, 1] from heads, variance and KL of at least 0 from latents"""
    part, x = make(subject)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # large weights show the range: a sigmoid or tanh at the end never leaves it
        for p in part.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
    made = outputs(subject, part.eval(), x)
    if subject.kind == "decoders":
        largest = made["output"].abs().max().item()
        if largest <= 1:
            raise Mismatch("unbounded logits (the head applies the sigmoid)", "within [-1, 1] for any weights")
    if subject.kind == "heads":
        for name, tensor in made.items():
            if not (tensor.min() >= 0 and tensor.max() <= 1):
                raise Mismatch(f"{name} in [0, 1]", f"[{tensor.min():.3g}, {tensor.max():.3g}]")
    if subject.kind == "latents":
        if made["variance"].min() < 0:
            raise Mismatch("a variance of at least 0", f"{made['variance'].min():.3g}")
        if made["kl"].flatten(1).sum(1).min() < -1e-3:
            raise Mismatch("a KL of at least 0 nats per image", f"{made['kl'].flatten(1).sum(1).min():.3g}")


def gradients(subject: Subject) -> None:
    """Gradients: every parameter gets one, finite, and so does the input"""
    part, x = make(subject)
    x.requires_grad_(True)
    made = outputs(subject, part, x)
    if subject.kind == "latents":
        made["sample"] = part.expand(part(x).sample())
    _backward(made)
    without = [name for name, p in part.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        raise Mismatch("a gradient for every parameter", f"none for {_some(without)}; is it used in forward?")
    broken = [name for name, p in part.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    if broken:
        raise Mismatch("finite gradients", f"not finite for {_some(broken)}")
    if x.grad is None:
        raise Mismatch("a gradient for the input", "none: the output does not depend on it, or .detach() cuts it")


def _backward(made: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    sum((tensor * torch.randn(tensor.shape, generator=generator)).sum() for tensor in made.values()).backward()


def bfloat16(subject: Subject) -> None:
    """bfloat16: under autocast, finite and near the float32 result (float32 from latents and heads)"""
    part, x = make(subject)
    exact = outputs(subject, part.eval(), x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = outputs(subject, part, x)
    for name, tensor in rough.items():
        if not torch.isfinite(tensor).all():
            raise Mismatch(f"finite values as {name} under autocast", "some are not")
        if subject.kind in ("latents", "heads") and name != "expand" and tensor.dtype != torch.float32:
            raise Mismatch(f"{name} in float32 under autocast", f"{tensor.dtype}")
        error = (tensor.float() - exact[name]).norm() / exact[name].norm().clamp(min=1e-6)
        if error > 0.2:
            raise Mismatch(f"{name} within 20% of the float32 result", f"{100 * error:.0f}% away")


def batch_independence(subject: Subject) -> None:
    """Eval mode: an image's result does not depend on the others in the batch"""
    part, x = make(subject)
    part.eval()
    whole = outputs(subject, part, x)
    alone = outputs(subject, part, x[1:2])
    for name, tensor in whole.items():
        if not close(tensor[1:2], alone[name]):
            difference = (tensor[1:2] - alone[name]).abs().max().item()
            raise Mismatch(f"the same {name} alone and in a batch of {BATCH}, after .eval()", f"{difference:.3g} apart")


def determinism(subject: Subject) -> None:
    """Determinism: the same seed gives the same weights and results; eval mode needs no seed"""
    (part, x), (twin, _) = make(subject), make(subject)
    for (name, a), (_, b) in zip(part.state_dict().items(), twin.state_dict().items(), strict=True):
        if not torch.equal(a, b):
            raise Mismatch("the same initial weights under the same torch.manual_seed", f"{name} differs")
    results = []
    for module in (part, twin):
        torch.manual_seed(1)
        results.append(outputs(subject, module.train(), x))
    _equal(*results, "in train mode under the same torch.manual_seed")
    part.eval()
    _equal(outputs(subject, part, x), outputs(subject, part, x), "in eval mode, twice")


def _equal(a: dict[str, Tensor], b: dict[str, Tensor], when: str) -> None:
    for name in a:
        if not torch.equal(a[name], b[name]):
            raise Mismatch(f"the same {name} {when}", f"{(a[name] - b[name]).abs().max().item():.3g} apart")


def state_dict(subject: Subject) -> None:
    """State dict: saved as safetensors and loaded into a new part, it gives the same results"""
    from safetensors.torch import load, save

    part, x = make(subject)
    with torch.no_grad():
        outputs(subject, part.train(), x)  # moves running averages
    state = {name: tensor.contiguous() for name, tensor in part.state_dict().items()}
    other, _ = make(subject, seed=1)
    other.load_state_dict(load(save(state)))
    _equal(outputs(subject, part.eval(), x), outputs(subject, other.eval(), x), "after the round trip")


def channels_last(subject: Subject) -> None:
    """channels_last: the memory format that training uses changes nothing"""
    part, x = make(subject)
    part.eval()
    made = outputs(subject, part, x)
    part.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    for name, tensor in outputs(subject, part, x).items():
        if not close(tensor, made[name]):
            difference = (tensor - made[name]).abs().max().item()
            raise Mismatch(f"the same {name} in channels_last", f"{difference:.3g} apart")


def meta(subject: Subject) -> None:
    """Devices: built and run without memory on the meta device, making every tensor where its input is"""
    with torch.device("meta"):
        part, x = make(subject)
    outputs(subject, part, x.to("meta"))


def compiled(subject: Subject) -> None:
    """torch.compile: the same result and gradients"""
    part, x = make(subject)
    part.eval()
    made = outputs(subject, part, x)
    torch.compiler.reset()
    run = torch.compile(lambda x: outputs(subject, part, x), backend=subject.backend, dynamic=False)
    for name, tensor in run(x).items():
        if not close(tensor, made[name]):
            raise Mismatch(f"the same {name} when compiled", f"{(tensor - made[name]).abs().max().item():.3g} apart")
    _backward(run(x))
    torch.compiler.reset()


def in_heads(subject: Subject) -> None:
    """Heads: works inside single, split (shared, paired with every built-in decoder, as sigma's) and mixture"""
    me = subject.config
    size = next((wiring["out_shape"] for wiring in accepted(subject) if wiring["in_shape"] == FEATURES[0]), None)
    if size is None:
        raise Mismatch(f"a decoder that takes flat features {FEATURES[0]}: the gaussian latent makes them", "refused")
    heads: list[dict] = [{"name": "single", "decoder": me}, {"name": "split", "decoder": me}]
    for name, options in PARTNERS.items():
        partner = {"name": name, **options}
        heads += [{"name": "split", "trunk": "pair", "decoders": pair} for pair in ([me, partner], [partner, me])]
    heads += [
        {"name": "split", "trunk": "pair", "decoders": ["mlp", "mlp"], "sigma_decoder": me},
        {"name": "mixture", "decoder": me},
        {"name": "mixture", "trunk": "separate", "decoders": [me, me]},
    ]
    features = torch.randn(BATCH, *FEATURES[0], generator=torch.Generator().manual_seed(0))
    for options in heads:
        config = HEADS.get(options["name"]).Config.model_validate(options)
        try:
            head = build(HEADS, config, in_shape=FEATURES[0], image_shape=size)
            composition = head(features)
        except Exception as error:
            raise Mismatch(f"a decoder that works in {_head(options)}", f"{error}") from error
        if tuple(composition.image.shape) != (BATCH, *size):
            raise Mismatch(f"an image of {size} from {_head(options)}", f"{tuple(composition.image.shape[1:])}")
        composition.image.sum().backward()
        without = [name for name, p in head.named_parameters() if p.requires_grad and p.grad is None]
        if without:
            raise Mismatch(f"a gradient for every parameter in {_head(options)}", f"none for {_some(without)}")


def in_a_model(subject: Subject) -> None:
    """Model: an image goes in and out with the plainest neighbours, and gradients come back"""
    size = (3, 32, 32)
    if subject.kind == "encoders":
        size = accepted(subject)[0]["in_shape"]
    elif subject.kind == "heads":
        size = accepted(subject)[0]["image_shape"]
    mlp = {"name": "mlp", "hidden_dims": [8]}
    parts = {"encoder": mlp, "latent": {"name": "gaussian", "dim": 4}, "head": {"name": "single", "decoder": mlp}}
    neighbours = [parts, {**parts, "encoder": {"name": "conv", "base_dim": 2}}]
    key = subject.kind.removesuffix("s")
    for tree in neighbours if subject.kind == "latents" else neighbours[:1]:
        try:
            model = Model(ModelConfig.model_validate({**tree, key: subject.config}), size)
            break
        except UserError as error:
            refused = error
    else:
        raise Mismatch("a part that fits its neighbours in a model", str(refused))
    posterior, composition = model(torch.rand(BATCH, *size))
    if tuple(composition.image.shape) != (BATCH, *size):
        raise Mismatch(f"images of {size}", f"{tuple(composition.image.shape[1:])}")
    (composition.image.sum() + posterior.kl().sum()).backward()


def sampling(subject: Subject) -> None:
    """Posterior: `sample` is a draw of the latent's shape, governed by the generator it is given"""
    part, x = make(subject)
    posterior = part(x)
    a, b, c = (posterior.sample(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    if tuple(a.shape) != (BATCH, *part.shape):
        raise Mismatch(f"a draw of shape {(BATCH, *part.shape)}", f"{tuple(a.shape)}")
    if not torch.equal(a, b):
        raise Mismatch("the same draw from the same generator state", "another one")
    if torch.equal(a, c) and posterior.variance.max() > 0:
        raise Mismatch("another draw from another generator state", "the same one: is the generator used?")


def _words(wiring: dict[str, Shape]) -> str:
    return ", ".join(f"{key}={shape}" for key, shape in wiring.items())


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _head(options: dict) -> str:
    names = [getattr(d, "name", None) or d["name"] for d in options.get("decoders", ()) if not isinstance(d, str)]
    if "sigma_decoder" in options:
        return "heads/split as sigma_decoder"
    return f"heads/{options['name']}" + (f" with decoders {' and '.join(names)}" if names else "")


def _every() -> Iterator:
    yield from (shapes, finite, value_range, gradients, bfloat16, batch_independence, determinism, state_dict)
    yield from (channels_last, meta, compiled)


CHECKS = {
    "encoders": (*_every(), channels, in_a_model),
    "latents": (*_every(), sampling, in_a_model),
    "decoders": (*_every(), channels, in_heads),
    "heads": (*_every(), channels, in_a_model),
}
