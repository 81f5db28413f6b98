"""Arrays in .npy and .npz files, whose headers are believed as far as there are bytes; and the images in them."""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from genzoo.errors import UserError, shortened
from genzoo.images.kinds import TORCH, kind
from genzoo.images.pixels import DEFLATE_RATIO, arranged, arranged_shape, layout_of, to_uint8, unfit
from genzoo.parts import Shape

CHUNK_BYTES = 4 << 20
MAX_ROWS = 20_000_000
HEADER_BYTES = 16 << 10
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def open_arrays(path: Path) -> dict[str, "Array"]:
    """The arrays of an .npz by name, or the one of an .npy as "", of which nothing but the headers is read.

    UserError for any other file, and where a header says other than what there is.
    """
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return {"": Array(path, path.name, file, path.stat().st_size)}
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if not members and any(name.endswith("data.pkl") for name in archive.namelist()):
                raise UserError(f"{path} is {TORCH}")
            arrays = {}
            for info in members:
                _refuse_lies(info, path.stat().st_size)
                with archive.open(info) as file:
                    arrays[info.filename.removesuffix(".npy")] = Array(path, info.filename, file, info.file_size)
            return arrays
    except UserError:
        raise
    except Exception as error:  # a bad zip, a bad header, an unknown .npy version: each has its own
        unreadable = f"not a readable {path.suffix or '.npz'} file: {error}"
        raise UserError(f"{path} is {(path.suffix != '.npy' and kind(path)) or unreadable}") from error


class Array:
    """Header of one array: nothing but the first kilobytes is read, and no pickle, whatever it holds.

    num_bytes: of the header and what follows. ValueError when the two do not agree.
    """

    def __init__(self, path: Path, name: str, file: IO[bytes], num_bytes: int):
        self.path, self.name = path, name
        head = io.BytesIO(file.read(HEADER_BYTES))
        version = np.lib.format.read_magic(head)
        if version not in READERS:
            raise ValueError(f"the array '{name}' has the unknown .npy version {version}")
        self.shape, self.fortran_order, self.dtype = READERS[version](head)
        self.offset = head.tell()
        size, there = math.prod(self.shape) * self.dtype.itemsize, num_bytes - self.offset
        problem = "truncated" if size > there else "longer than its header says" if size < there else ""
        if any(type(length) is not int or length < 0 for length in self.shape):
            problem = "no array"
        elif self.dtype.hasobject:  # a pickle, of any length
            problem = ""
        if problem:
            said = f"its header says {shortened(str(self.shape), 80)} {self.dtype}, {size} bytes, and there are {there}"
            raise ValueError(f"the array '{name}' is {problem}: {said}")

    @property
    def place(self) -> str:
        """In messages: the file, and in an .npz the array's name."""
        return str(self.path) if self.path.suffix == ".npy" else f"{self.path}: the array '{self.key}'"

    @property
    def key(self) -> str:
        return self.name.removesuffix(".npy")

    def __str__(self) -> str:
        return f"{self.key} {self.dtype} {self.shape}"

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in their order, some megabytes at a time; not of one in Fortran order. UserError when damaged."""
        num, *shape = self.shape
        row_bytes = self.dtype.itemsize * math.prod(shape)
        chunk = max(1, CHUNK_BYTES // max(1, row_bytes))
        with self._opened() as file:
            self._read(file, self.offset)  # not seek: after that, zipfile (of Python 3.12 on) compares no checksum
            for first in range(0, num, chunk):
                rows = min(chunk, num - first)
                yield np.frombuffer(self._read(file, rows * row_bytes), self.dtype).reshape(rows, *shape)
            self._up_to(file, 1)  # the checksum is compared at the end only

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self.path.suffix == ".npy":
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as file:
                yield file

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


@dataclass(frozen=True)
class Pictures:
    """An array as images. shape: b h w c, whatever its layout."""

    array: Array
    shape: tuple[int, int, int, int]
    layout: str

    @classmethod
    def of(cls, array: Array, image_shape: Shape | None = None) -> "Pictures":
        """image_shape: (c, h, w) that they have; None: told by where 1, 3 or 4 channels are. UserError says why not."""
        if problem := unfit(array.dtype):
            raise UserError(f"{array.place} {problem}")
        layout = layout_of(array.shape, image_shape)
        if not layout or min(array.shape[1:]) < 1:
            wanted = "with 1, 3 or 4 channels"
            if image_shape:
                size = " x ".join(map(str, image_shape))
                wanted = f"of {size}: set data.size and data.channels to what it holds"
            raise UserError(f"{array.place} has the shape {array.shape}, not b h w c, b c h w or b h w {wanted}")
        if array.fortran_order:
            raise UserError(f"{array.place} is in Fortran order: save np.ascontiguousarray of it")
        if array.shape[0] > MAX_ROWS:
            raise UserError(f"{array.place} has {array.shape[0]:,} images, more than {MAX_ROWS:,}: save a part of them")
        return cls(array, arranged_shape(array.shape, layout), layout)

    def blocks(self) -> Iterator[np.ndarray]:
        """uint8 b h w c, some megabytes at a time. UserError for floats that are not in [0, 1]."""
        for block in self.array.blocks():
            yield to_uint8(arranged(block, self.layout), self.array.place)


def _refuse_lies(info: zipfile.ZipInfo, num_bytes: int) -> None:
    """ValueError for a member that says other sizes than a file of so many bytes can have. Nothing is unpacked."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its member {info.filename} is neither stored nor deflated")
    ratio = DEFLATE_RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1
    if info.header_offset + info.compress_size > num_bytes or info.file_size > ratio * info.compress_size:
        raise ValueError(
            f"the array '{info.filename}' is truncated: it says {info.file_size} bytes, out of {info.compress_size} "
            f"in a file of {num_bytes}"
        )
