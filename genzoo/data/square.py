"""What the datasets of images of any size share: their options, what is done to an image, what is left out."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from math import prod
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from genzoo.config import Config
from genzoo.data.size import central, pixels, sides
from genzoo.images.decode import MAX_PIXELS, PILLOW_MAX_PIXELS, Crop, upright
from genzoo.images.pool import each
from genzoo.images.tree import CorruptFile, File
from genzoo.parts import Shape

log = logging.getLogger(__name__)
CHUNK = 4  # images that are stacked

PROCESSING = (
    "upright by EXIF, levels by the file's own bits, alpha on white (unless kept), central square, Pillow bicubic"
)


class SquareConfig(Config):
    """Options of images cut to their central square, or to the largest central part of other proportions."""

    size: pixels(8, 1024) = Field(64, description="height and width in pixels after the resize, or [height, width]")
    channels: int = Field(3, ge=1, le=4, description="1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha")
    skip_corrupt: bool = Field(False, description="leave corrupt images out, with a count, instead of refusing")
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, le=PILLOW_MAX_PIXELS, description="images of more pixels are refused before decoding"
    )


class SquareImages:
    """A dataset of such images; a subclass finds and reads them."""

    splits: tuple[str, ...] = ("train", "test")

    def __init__(self, config: SquareConfig):
        self.config = config
        height, width = sides(config.size)
        self.image_shape: Shape = (config.channels, height, width)
        self.processing = PROCESSING if height == width else PROCESSING.replace("square", f"part of {height}:{width}")
        self.notes: dict[str, dict] = {}


def decode(
    file: File,
    shape: Shape,
    crop: Crop | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray | CorruptFile:
    """The image, uint8 h w c (`upright`), or what is wrong with its file. crop: the central part, unless given."""
    try:
        return upright(file.read(), file.place, shape, crop or central(shape), resample, max_pixels)
    except CorruptFile as error:
        return error


def decode_all(
    files: Iterable[File],
    shape: Shape,
    skipped: list[str] | None = None,
    crop: Crop | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[np.ndarray]:
    """Every file decoded on all cores: uint8 arrays n h w c, of a few images each, in the order of the files.

    Only the few files in work are in memory. With a list `skipped`, corrupt files are left out and their names are
    appended to it; without, the first one raises CorruptFile.
    """
    load = partial(decode, shape=shape, crop=crop, resample=resample, max_pixels=max_pixels)
    found = each(lambda file: (file, load(file)), files, lambda file: file.num_bytes + prod(shape))
    images = (image for file, image in found if usable(image, file.name, skipped))
    while some := list(islice(images, CHUNK)):
        yield np.stack(some)


def usable(image: np.ndarray | CorruptFile, name: str, skipped: list[str] | None) -> bool:
    """False for a corrupt file, once its name is in `skipped`; without such a list, its error is raised."""
    if not isinstance(image, CorruptFile):
        return True
    if skipped is None:
        raise image
    log.warning("skipped: %s", image)
    skipped.append(name)
    return False


def read_from(
    dataset: Any, split: str, start: int, read: Callable[[int, list[str] | None], Iterator[np.ndarray]]
) -> Iterator[np.ndarray]:
    """What `read(first, skipped)` gives from the file number `first` on, without the first `start` images.

    With `skip_corrupt` among the dataset's options, the split's notes then name the files that are in `skipped`.
    """
    skipped: list[str] | None = [] if dataset.config.skip_corrupt else None
    first, left = (start, 0) if skipped is None else (0, start)  # the corrupt ones are not known without decoding
    for some in read(first, skipped):
        if len(some) > left:
            yield some[left:]
        left = max(0, left - len(some))
    dataset.notes[split] = {"skipped": skipped} if skipped else {}


def draw(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: what splits samples that no one has split."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
