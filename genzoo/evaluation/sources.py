"""One side of a comparison: a folder or zip of image files, an .npz of images or statistics, a split of a dataset."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genzoo.errors import UserError, nearest
from genzoo.evaluation.statistics import Known, read_statistics

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # not all that Pillow reads: some run programs
LOSSY = ("JPEG", "WEBP")
MAX_PIXELS = 100_000_000
AHEAD = 64  # files decoded ahead of the network


class Tree(Protocol):
    """Files under a folder or in a zip."""

    names: list[str]

    def read(self, name: str) -> bytes: ...

    def place(self, name: str) -> str: ...


@dataclass
class Images:
    """Images of one side, in a fixed order. digest: of the pixels or files, whatever their names and order."""

    name: str
    num: int
    digest: str
    load: Callable[[int], np.ndarray]  # index -> uint8 h w c with 1 or 3 channels, or 4 that are RGBA
    found: dict = field(default_factory=dict)  # what a look at them showed: sizes, modes, formats, duplicates

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(indices b, uint8 b c h w) with images of one shape each, decoded in threads (Pillow frees the lock)."""
        waiting: dict[tuple[int, ...], tuple[list[int], list[np.ndarray]]] = {}
        with ThreadPoolExecutor() as pool:
            for start in range(0, self.num, AHEAD):
                index = range(start, min(start + AHEAD, self.num))
                for k, image in zip(index, pool.map(self.load, index), strict=True):
                    rows, images = waiting.setdefault(image.shape, ([], []))
                    rows.append(k)
                    images.append(image)
                    if len(rows) == size:
                        yield _stack(*waiting.pop(image.shape))
        for rows, images in waiting.values():
            yield _stack(rows, images)


def find(
    name: str, open_tree: Callable[[Path], Tree], open_split: Callable[[str, str], np.ndarray], num: int | None = None
) -> Images | Known:
    """What the user calls `name`: a path, or dataset:split.

    open_tree: lists the image files of a folder or zip. open_split: (dataset, split) -> uint8 n h w c. num: at most so
    many images, spread evenly. UserError says what there is and what is accepted.
    """
    path = Path(name).expanduser()
    if path.suffix == ".npz" and path.is_file():
        arrays = _load_npz(path)
        return read_statistics(path, arrays) or from_array(name, _images_of(path, arrays), num)
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
    index = _spread(len(images), num)
    digests = (hashlib.sha256(np.ascontiguousarray(images[k])).digest() for k in index)
    h, w, c = images.shape[1:]
    found = {"count": len(index), "sizes": {f"{w}x{h}": len(index)}, "modes": {f"{c} channels": len(index)}}
    return Images(name, len(index), _digest(digests, found), lambda k: np.asarray(images[index[k]]), found)


def from_tree(name: str, tree: Tree, num: int | None = None) -> Images:
    """Image files, read as clean-fid reads them: `convert("RGB")`, nothing turned, cropped or laid on a background.

    UserError for an empty tree, and for files that are no images (all of them counted, the first named).
    """
    if not tree.names:
        raise UserError(f"{name} has no image files in it")
    names = [tree.names[k] for k in _spread(len(tree.names), num)]
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(lambda file: _look(tree.read(file)), names))
    bad = [(file, look) for file, look in zip(names, seen, strict=True) if isinstance(look, str)]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(names)} files cannot be used, the first: {tree.place(bad[0][0])}: {bad[0][1]}"
        )
    digests, sizes, modes, formats = zip(*seen, strict=True)
    found = {
        "count": len(names),
        "sizes": dict(Counter(sizes).most_common()),
        "modes": dict(Counter(modes).most_common()),
        "formats": dict(Counter(formats).most_common()),
        "lossy": sum(kind in LOSSY for kind in formats),
        "duplicates": len(names) - len(set(digests)),
    }

    def load(k: int) -> np.ndarray:
        try:
            image = Image.open(io.BytesIO(tree.read(names[k])), formats=FORMATS)
            return np.atleast_3d(np.asarray(image if image.mode == "L" else image.convert("RGB")))
        except Exception as error:  # Pillow's readers raise some ten kinds on bad files
            raise UserError(f"{tree.place(names[k])} cannot be decoded: {error}") from error

    return Images(name, len(names), _digest(digests, {}), load, found)


def _look(data: bytes) -> tuple[bytes, str, str, str] | str:
    """(sha256, size, mode, format) from the header, or what is wrong."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}"
            if image.mode.startswith(("I", "F")):
                return f"mode {image.mode} has more than 8 bits a channel: convert it to 8 bits"
            return hashlib.sha256(data).digest(), f"{image.width}x{image.height}", image.mode, image.format or ""
    except Exception as error:  # Pillow's readers raise some ten kinds on bad files
        return str(error)


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # a bad zip, a bad header, pickled objects: each has its own
        raise UserError(f"{path} is not a readable .npz file: {error}") from error


def _images_of(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The images of an .npz: `images`, ADM's `arr_0`, or the only uint8 array n h w c."""
    found = {key: array for key, array in arrays.items() if array.ndim == 4 and array.shape[-1] in (1, 3, 4)}
    keys = [key for key in ("images", "arr_0") if key in found] or list(found)
    if not keys:
        held = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise UserError(f"{path} holds neither statistics (mu, sigma) nor images n h w c (it holds {held})")
    images = found[keys[0]]
    if images.dtype != np.uint8 or not len(images):
        raise UserError(f"{path}: the array '{keys[0]}' is {images.dtype} {images.shape}; images are uint8 in [0, 255]")
    return images


def _spread(n: int, num: int | None) -> np.ndarray:
    num = min(num or n, n)
    return np.arange(num) * n // num


def _stack(rows: list[int], images: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    return torch.tensor(rows), torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _digest(digests, shape: dict) -> str:
    """Of a multiset of images: sorted, so that names and order do not matter."""
    return hashlib.sha256(b"".join(sorted(digests)) + repr(shape).encode()).hexdigest()
