"""Encoded images that come one after another, from archives or tables: decoded on all cores, in their order."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from PIL import Image

from genzoo.data.files import MAX_FILE_BYTES, CorruptFile
from genzoo.data.images import CHUNK, center_square, in_order, load_image
from genzoo.parts import Shape

log = logging.getLogger(__name__)


class Encoded:
    """One file's content under the name that messages give it; what `load_image` reads from."""

    def __init__(self, place: str, data: bytes | memoryview):
        self._place, self._data = place, data

    def num_bytes(self, name: str) -> int:
        return len(self._data)

    def read(self, name: str) -> bytes | memoryview:
        if len(self._data) > MAX_FILE_BYTES:
            raise CorruptFile(f"{self._place} is larger than {MAX_FILE_BYTES >> 20} MB")
        return self._data

    def place(self, name: str) -> str:
        return self._place


class Unreadable(Encoded):
    """A file that could not be read, and why: decoding it raises CorruptFile."""

    def __init__(self, place: str, error: Exception):
        super().__init__(place, b"")
        self._error = error

    def read(self, name: str) -> bytes:
        raise CorruptFile(f"{self._place} cannot be read: {self._error}") from self._error


def decode(file: Encoded, shape: Shape, max_pixels: int) -> np.ndarray | CorruptFile:
    """uint8 h w c: the central square, resized to `shape` (c, h, w), bicubic with antialiasing; or what is wrong."""
    try:
        return load_image(file, "", shape, center_square, Image.Resampling.BICUBIC, max_pixels)
    except CorruptFile as error:
        return error


def decode_stream(
    files: Iterable[Encoded], shape: Shape, max_pixels: int, skipped: list[str] | None = None
) -> Iterator[np.ndarray]:
    """uint8 arrays n h w c, of a few images each, in the order of the files.

    Only the few files in work are in memory. With a list `skipped`, corrupt files are left out and their places are
    appended to it; without, the first one raises CorruptFile.
    """

    def load(some: list[Encoded]) -> list[tuple[Encoded, np.ndarray | CorruptFile]]:
        return [(file, decode(file, shape, max_pixels)) for file in some]

    files = iter(files)
    for found in in_order(load, iter(lambda: list(islice(files, CHUNK)), [])):
        images = [image for file, image in found if usable(file, image, skipped)]
        if images:
            yield np.stack(images)


def usable(file: Encoded, image: np.ndarray | CorruptFile, skipped: list[str] | None) -> bool:
    """False for a corrupt file, once its place is in `skipped`; without such a list, its error is raised."""
    if not isinstance(image, CorruptFile):
        return True
    if skipped is None:
        raise image
    log.warning("skipped: %s", image)
    skipped.append(file.place(""))
    return False


def draw(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: what splits samples that no one has split."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
