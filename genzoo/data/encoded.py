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

    def __init__(self, place: str, data: bytes):
        self._place, self._data = place, data

    def num_bytes(self, name: str) -> int:
        return len(self._data)

    def read(self, name: str) -> bytes:
        if len(self._data) > MAX_FILE_BYTES:
            raise CorruptFile(f"{self._place} is larger than {MAX_FILE_BYTES >> 20} MB")
        return self._data

    def place(self, name: str) -> str:
        return self._place


def decode_stream(
    files: Iterable[Encoded], shape: Shape, max_pixels: int, skipped: list[str] | None = None
) -> Iterator[np.ndarray]:
    """uint8 arrays n h w c: the central squares, resized to `shape` (c, h, w), bicubic with antialiasing.

    Only the few files in work are in memory. With a list `skipped`, corrupt files are left out and their places are
    appended to it; without, the first one raises CorruptFile.
    """

    def load(some: list[Encoded]) -> tuple[list[np.ndarray], list[str]]:
        images, bad = [], []
        for file in some:
            try:
                images.append(load_image(file, "", shape, center_square, Image.Resampling.BICUBIC, max_pixels))
            except CorruptFile as error:
                if skipped is None:
                    raise
                log.warning("skipped: %s", error)
                bad.append(file.place(""))
        return images, bad

    files = iter(files)
    for images, bad in in_order(load, iter(lambda: list(islice(files, CHUNK)), [])):
        if skipped is not None:
            skipped.extend(bad)
        if images:
            yield np.stack(images)


def draw(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: what splits samples that no one has split."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
