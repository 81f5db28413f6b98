"""Scores of the trained model itself: what its densities and latents say of the images of the evaluated split."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.evaluation.images import Images, Spread, read
from genzoo.evaluation.protocol import versions
from genzoo.evaluation.work import Work
from genzoo.parts import Metric
from genzoo.progress import said_when_long

T = TypeVar("T")
GROUP = 32  # images that are encoded together and share their chance, whatever evaluation.batch_size is


class Trained:
    """See genzoo.parts.Trained."""

    def __init__(
        self, model: nn.Module, objective: nn.Module | None, images: Spread, mean: Tensor, variance: Tensor, work: Work
    ):
        self.model, self.objective, self.mean, self.variance = model, objective, mean, variance
        self.num, self.batch_size = len(images), work.batch_size
        self._images, self._work = images, work
        self._made: dict[tuple, Any] = {}

    def batches(self, what: str, seed: int, every: bool = False) -> Iterator[tuple[slice, Tensor, Generator]]:
        device = torch.device(self._work.device)
        for number, start in enumerate(range(0, self.num, GROUP)):
            if every or self._work.processes.owns(number):
                rows = slice(start, min(start + GROUP, self.num))
                x = read(self._images, rows).to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
                chance = int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])
                yield rows, x, torch.Generator(device).manual_seed(chance)
                self._work.progress(what, rows.stop, self.num)

    def total(self, x: Tensor) -> Tensor:
        return self._work.processes.sum(x.cpu())

    def once(self, make: Callable[..., T], *options: object) -> T:
        if (make, options) not in self._made:
            self._made[make, options] = make(self, *options)
        return self._made[make, options]


@torch.no_grad()
def score_model(
    metrics: list[tuple[Config, Metric]], trained: Trained, reference: Images, seed: int, strict: bool
) -> list[dict]:
    """Their entries in metrics.json's "scores". UserError for the first that cannot be made when `strict` is set."""
    entries = []
    for config, metric in metrics:
        entry = {
            "features": "",
            "generator": "model",
            "part": "y",
            "num_reference": trained.num,
            "reference": reference.name,
            "reference_sha256": reference.digest,
        }
        try:
            with said_when_long(f"metrics/{config.name}", config.model_dump()):
                made = metric.score(trained, seed)
        except UserError as error:
            if strict:
                raise UserError(f"{config.name} cannot be scored: {error}") from error
            entries.append({**entry, "metric": config.name, "value": None, "skipped": str(error)})
            continue
        entry |= {"seed": seed, "versions": versions()}
        entries += [{**entry, "metric": name, **value} for name, value in made.items()]
    return entries
