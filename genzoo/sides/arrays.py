"""A side that is an array of images, in a file or in memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genzoo.errors import UserError, suggestion
from genzoo.evaluation.images import Images, from_array, of_rows
from genzoo.evaluation.statistics import Known, read_statistics
from genzoo.images.arrays import Pictures, open_arrays
from genzoo.images.decode import MAX_SCORED_PIXELS
from genzoo.images.pixels import arranged, layout_of, to_uint8, unfit


def from_file(path: Path, key: str | None, num: int | None) -> Images | Known:
    """Statistics, or the only array of images in a file, of which a few megabytes are in memory at a time.

    key: which array of images it is.
    """
    arrays = open_arrays(path)
    if key is None and (known := read_statistics(path, arrays)):
        return known
    found = {name for name, array in arrays.items() if not unfit(array.dtype) and layout_of(array.shape)}
    held = ", ".join(map(str, arrays.values())) or "nothing"
    if key is None and path.suffix == ".npz" and len(found) != 1:
        if not found:
            raise UserError(f"{path} holds neither statistics (mu, sigma) nor images (it holds {held})")
        raise UserError(f"{path} holds several arrays of images ({held}): say which, {path}:{min(found)}")
    if key is not None and key not in arrays:
        raise UserError(f"{path} has no array '{key}'{suggestion(key, arrays)} (it holds {held})")
    pictures = Pictures.of(arrays[next(iter(found or arrays)) if key is None else key])
    n, h, w, _ = pictures.shape
    if not n or h * w > MAX_SCORED_PIXELS:
        raise UserError(f"{pictures.array.place} has the shape {pictures.array.shape}: no images, or too large ones")

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        first = 0
        for block in pictures.blocks():
            start, stop = np.searchsorted(index, (first, first + len(block)))
            yield from (block[k - first] for k in index[start:stop])
            first += len(block)
            if stop == len(index):
                return

    return of_rows(str(path) if key is None else f"{path}:{key}", pictures.shape, read, num)


def in_memory(source: Iterable[Any], num: int | None) -> Images:
    """An array or tensor of images, or batches of them, each alone or first in a tuple. All are kept, as uint8."""
    kind = type(source).__name__
    parts = []
    for batch in [source] if hasattr(source, "shape") else source:
        values = batch[0] if isinstance(batch, tuple | list) else batch
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        values = np.asarray(values)
        if problem := unfit(values.dtype):
            raise UserError(f"{kind} {problem}")
        if not (layout := layout_of(values.shape)) or min(values.shape) < 1:
            raise UserError(f"{kind} has the shape {values.shape}, not b h w c, b c h w or b h w of 1, 3 or 4 channels")
        parts.append(to_uint8(arranged(values, layout), kind))
    if len(sizes := {part.shape[1:] for part in parts}) != 1:
        what = "no images" if not parts else f"images of different sizes ({', '.join(map(str, sorted(sizes)))})"
        raise UserError(f"{kind} gives {what}")
    images = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return from_array(f"{kind} of {len(images)} images", images, num)
