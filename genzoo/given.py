"""Images that a user gives to a trained model: any folder, zip or file, an array, a dataset's split; at its size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from genzoo.data.size import central
from genzoo.data.square import decode_all
from genzoo.errors import UserError
from genzoo.evaluation.statistics import Known
from genzoo.images.decode import MODES
from genzoo.images.tree import SUFFIXES, Encoded, Tree
from genzoo.parts import Shape
from genzoo.sides import is_run, side


@dataclass
class Given:
    """names: one an image, unique, without suffix. batches(size): uint8 n h w c in their order, of the model's size."""

    names: list[str]
    batches: Callable[[int], Iterator[np.ndarray]]
    processing: str

    def __len__(self) -> int:
        return len(self.names)


def given(name: str, shape: Shape) -> Given:
    """What the user calls `name`. shape: (c, h, w) of the model.

    Files are turned upright by EXIF; of what has other proportions, the centre is kept; antialiased bicubic resize;
    alpha on white. UserError says what is accepted, and which file cannot be used.
    """
    channels, height, width = shape
    processing = f"central {width}:{height}, bicubic to {width}x{height}, {MODES.get(channels, f'{channels} channels')}"
    path = Path(name).expanduser()
    if path.suffix not in (".npy", ".npz") and not is_run(name) and (path.is_dir() or path.is_file()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            files, names = [Encoded(str(path), path.read_bytes())], [path.name]
        else:
            tree = Tree(path, SUFFIXES)
            tree.refuse_empty()
            files, names = list(tree.files(tree.names)), tree.names
        return Given(unique(names), lambda size: _batches(decode_all(files, shape), size), processing)
    images = side(name)
    if isinstance(images, Known):
        raise UserError(f"{name} holds statistics, no images")
    rows = partial(images.read, np.arange(images.num))
    names = [f"{k:06d}" for k in range(images.num)]
    return Given(names, lambda size: _batches((_fit(image, shape)[None] for image in rows()), size), processing)


def unique(names: list[str]) -> list[str]:
    """File names without their suffixes; with them (a.jpg -> a_jpg) where two would be the same."""
    stems = [name.rpartition(".")[0] or name for name in names]
    seen = {stem: stems.count(stem) for stem in set(stems)} if len(set(stems)) < len(stems) else {}
    made = [name.replace(".", "_") if seen.get(stem, 1) > 1 else stem for name, stem in zip(names, stems, strict=True)]
    if len(set(made)) < len(made):
        raise UserError("these file names differ in their punctuation alone: rename some of them")
    return made


def _fit(image: np.ndarray, shape: Shape) -> np.ndarray:
    """uint8 h w c -> uint8 of the shape (c, h, w), as h w c."""
    channels, height, width = shape
    made = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
    made = made if made.mode == MODES[channels] else made.convert(MODES[channels])
    made = made.crop(central(shape)(made.width, made.height)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(made).reshape(height, width, channels)


def _batches(parts: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Arrays of a few images -> arrays of `size` (the last one of fewer)."""
    rows = (image for part in parts for image in part)
    while some := list(islice(rows, size)):
        yield np.stack(some)
