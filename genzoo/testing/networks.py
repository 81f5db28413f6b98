"""Checks of encoders, latents, decoders and heads: everything a trainer and an evaluator will ask of a module."""

import torch
from torch import Tensor

from genzoo.parts import Shape
from genzoo.testing import latents
from genzoo.testing.assembled import in_a_model, in_heads
from genzoo.testing.subject import Mismatch, Subject, close
from genzoo.testing.wiring import BATCH, WIRINGS, accepted, batch, declared, disturbed, make, outputs, some


def shapes(subject: Subject) -> None:
    """Shapes: as declared, at several sizes and numbers of channels"""
    for wiring in accepted(subject):
        part = subject.build(**wiring)
        for name, tensor in outputs(subject, part, batch(subject, wiring)).items():
            if name == "kl" and len(tensor) == BATCH:  # of every element, or of whatever it separates into
                continue
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
    part, x = disturbed(subject)  # large weights show the range: a sigmoid or tanh at the end never leaves it
    made = outputs(subject, part, x)
    if subject.kind == "decoders":
        largest = made["output"].abs().max().item()
        if largest <= 1:
            raise Mismatch("unbounded logits (the head applies the sigmoid)", "within [-1, 1] for any weights")
    if subject.kind == "heads":
        for name, tensor in made.items():
            if name == "log_prob" and tensor.isfinite().all():  # a density may be above 1
                continue
            if not (tensor.min() >= 0 and tensor.max() <= 1):
                raise Mismatch(f"{name} in [0, 1]", f"[{tensor.min():.3g}, {tensor.max():.3g}]")
    if subject.kind == "latents":
        if made["variance"].min() < 0:
            raise Mismatch("a variance of at least 0", f"{made['variance'].min():.3g}")
        if "kl" in made and not getattr(part(x), "kl_is_estimate", False):
            smallest = made["kl"].reshape(len(x), -1).sum(1).min()
            if smallest < -1e-3:
                raise Mismatch("a KL of at least 0 nats per image", f"{smallest:.3g}")


def features_matter(subject: Subject) -> None:
    """Features: other ones give another image in eval mode"""
    part, x = disturbed(subject)
    if torch.equal(part(x[:1]), part(x[1:2])):
        raise Mismatch("another image for other features", "the same: are they used?")


def gradients(subject: Subject) -> None:
    """Gradients: every parameter gets one, finite, and so does the input"""
    part, x = make(subject)
    x.requires_grad_(True)
    made = outputs(subject, part, x)
    if subject.kind == "latents":
        sample = part(x).sample()
        # alone: the encoder of a model learns by it, and `mean` gives the input a gradient anyway
        if not sample.requires_grad or _gradient(sample, x) is None:
            raise Mismatch("a gradient for the input through `sample` alone: a reparameterised draw", "none")
        made["sample"] = part.expand(sample)
    _backward(made)
    without = [name for name, p in part.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        raise Mismatch("a gradient for every parameter", f"none for {some(without)}; is it used in forward?")
    broken = [name for name, p in part.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    if broken:
        raise Mismatch("finite gradients", f"not finite for {some(broken)}")
    if x.grad is None:
        raise Mismatch("a gradient for the input", "none: the output does not depend on it, or .detach() cuts it")


def _gradient(made: Tensor, x: Tensor) -> Tensor | None:
    return torch.autograd.grad(made.sum(), x, retain_graph=True, allow_unused=True)[0]


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
        if hasattr(part, "codes"):  # the nearest code may be another one for a value between two
            continue
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
    """Devices: built or moved, and run without memory on the meta device, making every tensor where its input is"""
    with torch.device("meta"):
        part, x = make(subject)
    outputs(subject, part, x.to("meta"))
    part, x = make(subject)
    outputs(subject, part.to("meta"), x.to("meta"))  # a tensor that is no buffer has stayed behind


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


def _words(wiring: dict[str, Shape]) -> str:
    return ", ".join(f"{key}={shape}" for key, shape in wiring.items())


EVERY = (
    shapes,
    finite,
    value_range,
    gradients,
    bfloat16,
    batch_independence,
    determinism,
    state_dict,
    channels_last,
    meta,
    compiled,
)
CHECKS = {
    "encoders": (*EVERY, channels, in_a_model),
    "latents": (*EVERY, *latents.CHECKS, in_a_model),
    "decoders": (*EVERY, features_matter, channels, in_heads),
    "heads": (*EVERY, channels, in_a_model),
}
