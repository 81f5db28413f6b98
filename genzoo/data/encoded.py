"""Encoded images that come one after another, from archives or tables: decoded on all cores, in their order."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from genzoo.data.files import MAX_FILE_BYTES, CorruptFile
from genzoo.data.images import decode_all, load_image
from genzoo.data.size import central
from genzoo.parts import Shape


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


def decode(file: Encoded, shape: Shape, max_pixels: int) -> np.ndarray:
    """uint8 h w c: the central part, resized to `shape` (c, h, w), bicubic with antialiasing. Raises CorruptFile."""
    return load_image(file, "", shape, central(shape), Image.Resampling.BICUBIC, max_pixels)


def decode_stream(
    files: Iterable[Encoded], shape: Shape, max_pixels: int, skipped: list[str] | None = None
) -> Iterator[np.ndarray]:
    """`decode_all` of such files."""
    load = partial(decode, shape=shape, max_pixels=max_pixels)
    return decode_all(files, load, skipped, lambda file: file.place(""))


def draw(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: what splits samples that no one has split."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) / 2**64
