"""A set of images, as scores see it; and images on their way between the model, the scores and the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from genzoo.errors import UserError

MIX = "mix"
BATCH_VALUES = 64 << 20  # pixels times channels of a batch


@dataclass
class Images:
    """Images of one side, in a fixed order. digest: of the pixels or files, whatever their names and order.

    read: ascending indices -> the images in that order, each uint8 h w c with 1 or 3 channels, or 4 that are RGBA.
    """

    name: str
    num: int
    digest: str
    read: Callable[[np.ndarray], Iterator[np.ndarray]]
    found: dict = field(default_factory=dict)  # what a look at them showed: sizes, modes, formats, duplicates
    about: dict = field(default_factory=dict)  # what a score must say of their origin

    def batches(
        self, size: int, index: np.ndarray | None = None, prepare: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(indices b, batch) of all the images, or of those of an ascending index; a batch holds one shape.

        prepare: what becomes of uint8 b c h w, the default; where it resizes, images of all sizes share batches. Large
        images come in smaller batches, and of many different shapes no more wait than fill a few of them.
        """
        waiting: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        num_values = 0
        for rows, images in self._alike(size, np.arange(self.num) if index is None else index):
            x = images if prepare is None else prepare(images)
            del images  # or it would be held beside the next ones, while these are read
            waiting.setdefault(x.shape[1:], []).append((rows, x))
            num_values += x.numel()
            if sum(len(part) for part, _ in waiting[x.shape[1:]]) >= min(size, BATCH_VALUES // x[0].numel()):
                shape = x.shape[1:]
            elif num_values > 4 * BATCH_VALUES:
                shape = max(waiting, key=lambda shape: sum(part.numel() for _, part in waiting[shape]))
            else:
                continue
            rows, x = _joined(waiting.pop(shape))
            if len(rows) > size:
                waiting[shape] = [(rows[size:], x[size:])]
            num_values -= x[:size].numel()
            yield rows[:size], x[:size]
        yield from map(_joined, waiting.values())

    def _alike(self, size: int, index: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """(indices b, uint8 b c h w): the next images, `size` of them or fewer large ones, grouped by their shape."""
        images: list[np.ndarray] = []
        num_values = first = 0
        for image in self.read(index):
            images.append(image)
            num_values += image.size
            full = len(images) == size or num_values + image.size > BATCH_VALUES
            del image  # none is held while the next ones are read
            if full or first + len(images) == len(index):
                yield from _stacked(index[first : first + len(images)], images)
                first, images, num_values = first + len(images), [], 0


def from_array(name: str, images: np.ndarray, num: int | None = None) -> Images:
    """uint8 n h w c, also memory-mapped."""
    return of_rows(name, images.shape, lambda index: (np.asarray(images[k]) for k in index), num)


def of_rows(
    name: str, shape: tuple[int, ...], rows: Callable[[np.ndarray], Iterator[np.ndarray]], num: int | None
) -> Images:
    """`num` of the images that `rows` reads by ascending index, out of an array of that shape."""
    n, h, w, c = shape
    chosen = spread(n, num)
    digests = (hashlib.sha256(np.ascontiguousarray(image)).digest() for image in rows(chosen))
    found = {"count": len(chosen), "sizes": {f"{w}x{h}": len(chosen)}, "modes": {f"{c} channels": len(chosen)}}
    return Images(name, len(chosen), digest_of(digests, found), lambda index: rows(chosen[index]), found)


def _stacked(index: np.ndarray, images: list[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
    """(indices b, uint8 b c h w) of images h w c, grouped by their shape."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        groups.setdefault(image.shape, []).append(row)
    for rows in groups.values():
        alone = len(rows) == 1 and images[rows[0]].flags.writeable
        some = images[rows[0]][None] if alone else np.stack([images[row] for row in rows])
        yield torch.from_numpy(index[rows]), torch.from_numpy(some).permute(0, 3, 1, 2)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(parts) == 1:
        return parts[0]
    rows, batches = zip(*parts, strict=True)
    return torch.cat(rows), torch.cat(batches)


def digest_of(digests: Iterable[bytes], shape: dict) -> str:
    """Of a multiset of images: sorted, so that names and order do not matter."""
    return hashlib.sha256(b"".join(sorted(digests)) + repr(shape).encode()).hexdigest()


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
