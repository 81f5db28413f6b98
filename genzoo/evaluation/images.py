"""Images on their way between the model, the scores and the disk."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from genzoo.errors import UserError

MIX = "mix"


def quantize(x: Tensor) -> Tensor:
    """b c h w in [0, 1] -> uint8: rounded and clamped, never truncated. UserError when a value is not finite."""
    if not x.isfinite().all():
        raise UserError("the model makes values that are not finite: its training diverged; take an earlier checkpoint")
    return (x.float() * 255).round_().clamp_(0, 255).to(torch.uint8)


def read(images: np.ndarray | Spread, rows: slice) -> Tensor:
    """Rows of uint8 n h w c, also memory-mapped -> uint8 b c h w on the CPU."""
    return torch.from_numpy(np.array(images[rows])).permute(0, 3, 1, 2)


class Spread:
    """At most `num` of the images n h w c, at equal distances: a sorted folder keeps all its kinds. Reads lazily."""

    def __init__(self, images: np.ndarray, num: int | None):
        num = min(num or len(images), len(images))
        self._images, self._index = images, np.arange(num) * len(images) // num
        self.shape = (num, *images.shape[1:])

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._images[self._index[rows]]


def shares(num: int, parts: Iterable[str]) -> dict[str, slice]:
    """The K equal, consecutive shares of `num` samples that `mix` takes from the K branches."""
    names = list(parts)
    ends = [num * k // len(names) for k in range(len(names) + 1)]
    return {name: slice(*ends[k : k + 2]) for k, name in enumerate(names)}
