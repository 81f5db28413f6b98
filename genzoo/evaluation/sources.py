"""One side of a comparison: a folder or zip of image files, an .npz of images or statistics, a split of a dataset."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genzoo.errors import UserError, nearest
from genzoo.evaluation.decoding import MAX_PIXELS, Tree, decode, each, look
from genzoo.evaluation.images import spread
from genzoo.evaluation.statistics import Known, read_statistics

LOSSY = ("JPEG", "WEBP")
BATCH_VALUES = 64 << 20  # pixels times channels of a batch


class Array(Protocol):
    """One array of an .npz, read in its order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool

    def blocks(self) -> Iterator[np.ndarray]: ...


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
        num_values = 0
        for k, image in enumerate(self.read(index), 1):
            images.append(image)
            num_values += image.size
            if k < len(index) and len(images) < size and num_values + image.size <= BATCH_VALUES:
                continue
            groups: dict[tuple[int, ...], list[int]] = {}
            for row, one in enumerate(images):
                groups.setdefault(one.shape, []).append(row)
            for rows in groups.values():
                stacked = torch.from_numpy(np.stack([images[row] for row in rows])).permute(0, 3, 1, 2)
                yield torch.from_numpy(index[k - len(images) + np.array(rows)]), stacked
            images, num_values = [], 0


def find(
    name: str,
    open_tree: Callable[[Path], Tree],
    open_split: Callable[[str, str], np.ndarray],
    open_arrays: Callable[[Path], dict[str, Array]],
    num: int | None = None,
) -> Images | Known:
    """What the user calls `name`: a path, or dataset:split.

    open_tree: lists the image files of a folder or zip. open_split: (dataset, split) -> uint8 n h w c. open_arrays: the
    arrays of an .npz, unread. num: at most so many images, spread evenly. UserError says what there is and what is
    accepted.
    """
    path = Path(name).expanduser()
    if path.suffix == ".npz" and path.is_file():
        arrays = open_arrays(path)
        return read_statistics(path, arrays) or _from_npz(path, arrays, num)
    if path.is_dir() or path.is_file():
        return from_tree(name, open_tree(path), num)
    dataset, colon, split = name.partition(":")
    if colon and "/" not in dataset:
        return from_array(name, open_split(dataset, split), num)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(
        f"there is no {name}{nearest(path.name, siblings)}; each side is a folder or zip of images, an .npz of images "
        "or statistics, a run, or dataset:split such as mnist:test"
    )


def from_array(name: str, images: np.ndarray, num: int | None = None) -> Images:
    """uint8 n h w c, also memory-mapped."""
    return _of_rows(name, images.shape, lambda index: (np.asarray(images[k]) for k in index), num)


def _from_npz(path: Path, arrays: dict[str, Array], num: int | None) -> Images:
    """`images`, ADM's `arr_0`, or the only uint8 array n h w c, of which a few megabytes are in memory at a time."""
    found = {key: array for key, array in arrays.items() if len(array.shape) == 4 and array.shape[-1] in (1, 3, 4)}
    keys = [key for key in ("images", "arr_0") if key in found] or list(found)
    if not keys:
        held = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise UserError(f"{path} holds neither statistics (mu, sigma) nor images n h w c (it holds {held})")
    array = found[keys[0]]
    n, h, w, _ = array.shape
    if array.dtype != np.uint8 or min(n, h, w) < 1 or h * w > MAX_PIXELS:
        raise UserError(f"{path}: the array '{keys[0]}' is {array.dtype} {array.shape}; images are uint8 in [0, 255]")
    if array.fortran_order:
        raise UserError(f"{path}: the array '{keys[0]}' is in Fortran order: save np.ascontiguousarray of it")

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        first = 0
        for block in array.blocks():
            start, stop = np.searchsorted(index, (first, first + len(block)))
            yield from (block[k - first] for k in index[start:stop])
            first += len(block)
            if stop == len(index):
                return

    return _of_rows(str(path), array.shape, read, num)


def _of_rows(
    name: str, shape: tuple[int, ...], rows: Callable[[np.ndarray], Iterator[np.ndarray]], num: int | None
) -> Images:
    """`num` of the images that `rows` reads by ascending index, out of an array of that shape."""
    n, h, w, c = shape
    chosen = spread(n, num)
    digests = (hashlib.sha256(np.ascontiguousarray(image)).digest() for image in rows(chosen))
    found = {"count": len(chosen), "sizes": {f"{w}x{h}": len(chosen)}, "modes": {f"{c} channels": len(chosen)}}
    return Images(name, len(chosen), _digest(digests, found), lambda index: rows(chosen[index]), found)


def from_tree(name: str, tree: Tree, num: int | None = None) -> Images:
    """Image files, each decoded as it is (`decoding.decode`).

    UserError for an empty tree, and for files that are no images (all of them counted, the first named).
    """
    if not tree.names:
        raise UserError(f"{name} has no image files in it")
    names = [tree.names[k] for k in spread(len(tree.names), num)]
    seen = list(each(look, tree, names, [0] * len(names)))
    bad = [(file, fault) for file, fault in zip(names, seen, strict=True) if isinstance(fault, str)]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(names)} files cannot be used, the first: {tree.place(bad[0][0])}: {bad[0][1]}"
        )
    digests, sizes, modes, formats = zip(*seen, strict=True)
    found = {
        "count": len(names),
        "sizes": {f"{w}x{h}": count for (w, h), count in Counter(sizes).most_common()},
        "modes": dict(Counter(modes).most_common()),
        "formats": dict(Counter(formats).most_common()),
        "lossy": sum(kind in LOSSY for kind in formats),
        "duplicates": len(names) - len(set(digests)),
    }

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        return each(decode, tree, [names[k] for k in index], [3 * math.prod(sizes[k]) for k in index])

    return Images(name, len(names), _digest(digests, {}), read, found)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(parts) == 1:
        return parts[0]
    rows, batches = zip(*parts, strict=True)
    return torch.cat(rows), torch.cat(batches)


def _digest(digests, shape: dict) -> str:
    """Of a multiset of images: sorted, so that names and order do not matter."""
    return hashlib.sha256(b"".join(sorted(digests)) + repr(shape).encode()).hexdigest()
