"""From images to latents and back: the posteriors of a split, latents of samplers, what latents become."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.budget import refuse
from genzoo.errors import UserError
from genzoo.evaluation.images import Spread, read
from genzoo.evaluation.work import Work
from genzoo.numerics import full_float32
from genzoo.parts import Composition, Sampler, Shape
from genzoo.progress import said_when_long


def bind(sampler: Sampler, model: nn.Module) -> None:
    """Show the trained model to a sampler that wants to see it."""
    if hasattr(sampler, "bind"):
        sampler.bind(model)


def draw(model: nn.Module, sampler: Sampler, num: int, seed: int) -> Tensor:
    """Latents of a sampler that has learned what it needs, num *latent_shape on the CPU."""
    refuse_many(num, model.latent_shape, "samples")
    bind(sampler, model)
    if hasattr(sampler, "loss"):  # a network, on the model's device
        sampler.to(next((parameter.device for parameter in model.parameters()), None))
    with said_when_long(getattr(sampler, "kind_name", "the sampler"), {"num": f"{num:,}"}):
        return sampler.sample(num, torch.Generator().manual_seed(seed))


def refuse_many(num: int, latent_shape: Shape, place: str) -> None:
    """UserError where the latents of `num` samples are more than the memory."""
    refuse(4 * num * prod(latent_shape), f"{place}: the latents of {num:,} samples", "make fewer")


def fit_split(sampler: Sampler) -> str | None:
    """The split whose posteriors a sampler learns; None when it learns nothing."""
    return getattr(sampler, "fit_split", "train") if sampler.needs_fit else None


def protocol_of(sampler: Sampler | None) -> dict:
    """What a score must say of the sampler behind it (None: of reconstructions): what it was fitted on, and how."""
    if sampler is None:
        return {"fit_split": None}
    protocol = getattr(sampler, "protocol", None)
    return {"fit_split": fit_split(sampler), **({"sampler": protocol} if protocol else {})}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and float32 products with all their bits, and afterwards as they were."""
    training = model.training
    model.eval()
    try:
        with full_float32():
            yield
    finally:
        model.train(training)


@torch.no_grad()  # not inference_mode: a sampler may train on what comes out
def encode(model: nn.Module, images: np.ndarray | Spread, work: Work) -> tuple[Tensor, Tensor]:
    """uint8 n h w c -> the posteriors' mean and variance, n *latent_shape, float32 on the CPU."""
    mean = torch.zeros(len(images), *model.latent_shape)
    variance = torch.zeros_like(mean)
    with evaluating(model):
        for rows in _batches(len(images), work, every=False):
            x = read(images, rows).to(work.device).float().div_(255).contiguous(memory_format=torch.channels_last)
            posterior = model.encode(x)
            mean[rows], variance[rows] = posterior.mean, posterior.variance
            work.progress("encode", rows.start + len(x), len(images))
    return work.processes.sum(mean), work.processes.sum(variance)


@torch.no_grad()
def decode(model: nn.Module, z: Tensor, work: Work, every: bool = False) -> Iterator[tuple[slice, Composition]]:
    """The rows of z (n *latent_shape) and their composition, batch by batch: this process's, or `every` one."""
    with evaluating(model):
        for rows in _batches(len(z), work, every):
            yield rows, model.decode(z[rows].to(work.device))


def samples(
    model: nn.Module, sampler: Sampler, num: int, *, seed: int, part: str = "y", work: Work
) -> Iterator[Tensor]:
    """Batches b c h w in [0, 1] of the part `part` of `num` samples: the very images that `evaluate` scores."""
    for _, composition in decode(model, draw(model, sampler, num, seed), work):
        parts = {"y": composition.image, **composition.parts}
        if part not in parts:
            raise UserError(f"the model makes no part '{part}' (parts: {', '.join(parts)})")
        yield parts[part].cpu()


def pick(splits: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The split of that name; UserError when there is none, or nothing in it."""
    if name not in splits:
        raise UserError(f"the data set has no split '{name}' (it has: {', '.join(splits)})")
    if not len(splits[name]):
        raise UserError(f"the data set's split '{name}' is empty")
    return splits[name]


def _batches(num: int, work: Work, every: bool) -> Iterator[slice]:
    for number, start in enumerate(range(0, num, work.batch_size)):
        if every or work.processes.owns(number):
            yield slice(start, start + work.batch_size)
