"""Arrays in .npz files: their headers, and their rows a few megabytes at a time."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from genzoo.errors import UserError

CHUNK_BYTES = 4 << 20


def open_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz by name, of which nothing but the headers is read. UserError for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name.removesuffix(".npy"): Array(path, archive, name)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except Exception as error:  # a bad zip, a bad header, an unknown .npy version: each has its own
        raise UserError(f"{path} is not a readable .npz file: {error}") from error


class Array:
    """Header of one member: nothing but the first kilobytes is read, and no pickle, whatever it holds."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str):
        self.path, self.name = path, name
        if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its member {name} is neither stored nor deflated")
        with archive.open(name) as file:
            head = io.BytesIO(file.read(16 << 10))
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        version = np.lib.format.read_magic(head)
        if version not in readers:
            raise ValueError(f"its member {name} has the unknown .npy version {version}")
        self.shape, self.fortran_order, self.dtype = readers[version](head)
        self.offset = head.tell()

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in their order, some megabytes at a time; not of one in Fortran order. UserError when damaged."""
        num, *shape = self.shape
        row_bytes = self.dtype.itemsize * math.prod(shape)
        chunk = max(1, CHUNK_BYTES // max(1, row_bytes))
        with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as file:
            self._read(file, self.offset)  # not seek: after that, zipfile (of Python 3.12 on) compares no checksum
            for first in range(0, num, chunk):
                rows = min(chunk, num - first)
                yield np.frombuffer(self._read(file, rows * row_bytes), self.dtype).reshape(rows, *shape)
            if self._up_to(file, 1):  # the checksum is compared at the end only
                raise UserError(f"{self.path}: the array '{self.name}' is longer than its header says")

    def _read(self, file: IO[bytes], num_bytes: int) -> bytes:
        data = self._up_to(file, num_bytes)
        if len(data) < num_bytes:
            raise UserError(f"{self.path}: the array '{self.name}' is truncated")
        return data

    def _up_to(self, file: IO[bytes], num_bytes: int) -> bytes:
        try:
            return file.read(num_bytes)
        except Exception as error:  # zipfile and zlib have their own
            raise UserError(f"{self.path}: the array '{self.name}' is damaged: {error}") from error
