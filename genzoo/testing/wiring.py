"""Encoders, latents, decoders and heads under examination: the sizes they are built at, their input and output."""

from typing import Any

import torch
from torch import Tensor, nn

from genzoo.parts import Shape
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject

FEATURES: list[Shape] = [(6,), (3, 2, 2)]
IMAGES: list[Shape] = [(3, 32, 32), (1, 32, 32), (7, 32, 32), (2, 28, 28), (4, 32, 48), (3, 64, 64), (3, 9, 21)]
WIRINGS: dict[str, list[dict[str, Shape]]] = {
    "encoders": [{"in_shape": image} for image in IMAGES],
    "latents": [{"in_shape": features} for features in [*FEATURES, (4, 4, 2)]],
    "decoders": [{"in_shape": features, "out_shape": image} for features in FEATURES for image in IMAGES],
    "heads": [{"in_shape": features, "image_shape": image} for features in FEATURES for image in IMAGES],
}
BATCH = 3


def accepted(subject: Subject) -> list[dict[str, Shape]]:
    """The wirings that the part does not refuse; Mismatch when it refuses all."""
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


def disturbed(subject: Subject) -> tuple[nn.Module, Tensor]:
    """A part in eval mode with noise on its weights, which may begin at zero or in balance, and a batch for it."""
    part, x = make(subject)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in part.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
    return part.eval(), x


def batch(subject: Subject, wiring: dict[str, Shape]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if subject.kind == "encoders" else torch.randn
    return draw(BATCH, *wiring["in_shape"], generator=generator)


def outputs(subject: Subject, part: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Everything the part makes of a batch, by name."""
    made = part(x)
    if subject.kind == "latents":
        named = {"mean": made.mean, "variance": made.variance, "expand": part.expand(made.mean)}
        for name in ("kl", "log_prob"):
            if hasattr(made, name):
                named[name] = getattr(made, name)(made.mean)
        named |= made.penalties() if hasattr(made, "penalties") else {}
    elif subject.kind == "heads":
        named = {"image": made.image, **made.parts}
        if made.log_prob is not None:
            named["log_prob"] = made.log_prob(made.image.detach())
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
        return {"expand": (part.out_shape,), "mean": (part.shape,), "variance": (part.shape,)}.get(name, ((),))
    if subject.kind == "decoders":
        return (wiring["out_shape"],)
    if name == "log_prob":
        return ((),)
    image = wiring["image_shape"]
    return (image,) if name == "image" else (image, (1, *image[1:]))


def some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
