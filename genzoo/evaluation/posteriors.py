"""The posteriors of a split's images, and the samplers that learn them."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.images import Spread, read
from genzoo.launch import ALONE, Launch
from genzoo.parts import Sampler
from genzoo.progress import Progress

log = logging.getLogger(__name__)


def fit_samplers(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    splits: Mapping[str, np.ndarray],
    *,
    seed: int,
    device: torch.device | str,
    batch_size: int,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Fit every sampler that has something to learn on the posteriors of its `fit_split`, each split encoded once.

    splits: uint8 n h w c. Returns name -> reason for those that cannot be fitted, which `evaluate` takes as `skipped`.
    """
    posteriors, failed = {}, {}
    for name, sampler in samplers.items():
        if not sampler.needs_fit:
            continue
        split = fit_split(sampler)
        if split not in posteriors:
            posteriors[split] = encode(model, pick(splits, split), device, batch_size, stage(progress, "encode"))
        log.info("fitting sampler %s on %d posteriors (%s)", name, len(posteriors[split][0]), split)
        bind(sampler, model)
        try:
            sampler.fit(*posteriors[split], seed)
        except UserError as error:
            failed[name] = str(error)
    return failed


def bind(sampler: Sampler, model: nn.Module) -> None:
    """Show the trained model to a sampler that wants to see it."""
    if hasattr(sampler, "bind"):
        sampler.bind(model)


def draw(model: nn.Module, sampler: Sampler, num: int, seed: int) -> Tensor:
    """Latents of a sampler that has learned what it needs, num *latent_shape on the CPU."""
    bind(sampler, model)
    return sampler.sample(num, torch.Generator().manual_seed(seed))


def fit_split(sampler: Sampler) -> str | None:
    """The split whose posteriors a sampler learns; None when it learns nothing."""
    return getattr(sampler, "fit_split", "train") if sampler.needs_fit else None


def about(sampler: Sampler | None) -> dict:
    """What a score must say of the sampler behind it (None: of reconstructions): what it was fitted on, and how."""
    if sampler is None:
        return {"fit_split": None}
    protocol = getattr(sampler, "protocol", None)
    return {"fit_split": fit_split(sampler), **({"sampler": protocol} if protocol else {})}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()  # not inference_mode: a sampler may train on what comes out
def encode(
    model: nn.Module,
    images: np.ndarray | Spread,
    device: torch.device | str,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
    processes: Launch = ALONE,
) -> tuple[Tensor, Tensor]:
    """uint8 n h w c -> the posteriors' mean and variance, n *latent_shape, float32 on the CPU."""
    mean = torch.zeros(len(images), *model.latent_shape)
    variance = torch.zeros_like(mean)
    with evaluating(model):
        for number, start in enumerate(range(0, len(images), batch_size)):
            if not processes.owns(number):
                continue
            rows = slice(start, start + batch_size)
            x = read(images, rows).to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
            posterior = model.encode(x)
            mean[rows], variance[rows] = posterior.mean, posterior.variance
            if progress:
                progress(start + len(x), len(images))
    return processes.sum(mean), processes.sum(variance)


def pick(splits: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The split of that name; UserError when there is none, or nothing in it."""
    if name not in splits:
        raise UserError(f"the data set has no split '{name}' (it has: {', '.join(splits)})")
    if not len(splits[name]):
        raise UserError(f"the data set's split '{name}' is empty")
    return splits[name]


def stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    """The progress of one named stage."""
    return None if progress is None else lambda done, total: progress(name, done, total)
