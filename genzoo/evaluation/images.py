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


def spread(n: int, num: int | None) -> np.ndarray:
    """At most `num` of n rows, ascending: one of each of `num` equal stretches, so that a sorted set keeps its kinds.

    Where in its stretch is drawn, always in the same way: equal steps would see one phase of what repeats in the set.
    MNIST's writers do: every sixth training image, from the first and from the fourth on, are an fd of 8 apart.
    """
    num = min(num or n, n)
    edges = np.arange(num + 1) * n // num
    inside = np.random.RandomState(0).random_sample(num)  # the one generator whose numbers NumPy never changes
    return edges[:-1] + (inside * np.diff(edges)).astype(np.int64)


class Spread:
    """At most `num` of the images n h w c, spread over them. Reads lazily."""

    def __init__(self, images: np.ndarray, num: int | None):
        self._images, self._index = images, spread(len(images), num)
        self.shape = (len(self._index), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._images[self._index[rows]]


def shares(num: int, parts: Iterable[str]) -> dict[str, slice]:
    """The K equal, consecutive shares of `num` samples that `mix` takes from the K branches."""
    names = list(parts)
    ends = [num * k // len(names) for k in range(len(names) + 1)]
    return {name: slice(*ends[k : k + 2]) for k, name in enumerate(names)}
