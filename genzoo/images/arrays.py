"""Arrays in .npy and .npz files, whose headers are believed as far as there are bytes; and the images in them.

Images are b h w c, b c h w or b h w; uint8, uint16 (scaled as grey files of 16 bits are) or floats in [0, 1] (rounded
as samples are).
"""

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
from genzoo.parts import Shape

CHUNK_BYTES = 4 << 20
MAX_ROWS = 20_000_000
HEADER_BYTES = 16 << 10
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DEFLATE_RATIO = 1032  # bytes that one packed byte can stand for, at most
HALF_LEVEL = 0.5 / 255  # so little beyond [0, 1] is rounded to its ends anyway


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
            arrays = {}
            for info in members:
                _refuse_lies(info, path.stat().st_size)
                with archive.open(info) as file:
                    arrays[info.filename.removesuffix(".npy")] = Array(path, info.filename, file, info.file_size)
            return arrays
    except Exception as error:  # a bad zip, a bad header, an unknown .npy version: each has its own
        raise UserError(f"{path} is not a readable {path.suffix or '.npz'} file: {error}") from error


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


def unfit(dtype: np.dtype) -> str:
    """Why numbers of this type are no pixels, in words; empty when they are."""
    if dtype.hasobject:
        return "is object, not uint8: what only a pickle can hold is never loaded; save an array of numbers"
    if dtype == np.uint8 or (dtype.kind, dtype.itemsize) == ("u", 2) or dtype.kind == "f":
        return ""
    return (
        f"is {dtype}, not uint8, uint16 or floats in [0, 1]: save values in [0, 255] as x.astype('uint8') "
        "(from floats in [0, 1]: (255 * x).round().astype('uint8'))"
    )


def layout_of(shape: tuple[int, ...], image_shape: Shape | None = None, channels: tuple[int, ...] = (1, 3, 4)) -> str:
    """The layout of images in an array of that shape, or ""; where both fit, the channels are last."""
    inner = tuple(shape[1:])
    if image_shape:
        c, h, w = image_shape
        fitting = {"b h w c": inner == (h, w, c), "b c h w": inner == (c, h, w), "b h w": inner == (h, w) and c == 1}
    else:
        fitting = {
            "b h w c": len(inner) == 3 and inner[2] in channels,
            "b c h w": len(inner) == 3 and inner[0] in channels,
            "b h w": len(inner) == 2 and inner[1] not in channels,  # h w 3 is one image rather than h grey ones
        }
    return next((layout for layout, fits in fitting.items() if fits), "")


def arranged_shape(shape: tuple[int, ...], layout: str) -> tuple[int, int, int, int]:
    """b h w c."""
    sizes = dict(zip(layout.split(), shape, strict=True))
    return sizes["b"], sizes["h"], sizes["w"], sizes.get("c", 1)


def arranged(block: np.ndarray, layout: str) -> np.ndarray:
    """b h w c."""
    if layout == "b c h w":
        return block.transpose(0, 2, 3, 1)
    return block if layout == "b h w c" else block[..., None]


def to_uint8(values: np.ndarray, place: str) -> np.ndarray:
    """Pixels of a type that is fit, of any shape. UserError for floats that are not in [0, 1], with the conversion."""
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8, copy=False)
    if values.dtype.kind == "u":
        return eight_bits(values)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{place} has values that are not finite: images in floats are in [0, 1]")
    if low < -HALF_LEVEL or high > 1 + HALF_LEVEL:
        remedy = "scale them to that"
        if low >= -1 - HALF_LEVEL and high <= 1 + HALF_LEVEL:
            remedy = "from [-1, 1], (x + 1) / 2 makes them so"
        elif low > -1 and high < 256:
            remedy = "from [0, 255], x / 255 makes them so, or x.round().astype('uint8')"
        raise UserError(f"{place} has values from {low:.4g} to {high:.4g}; images in floats are in [0, 1]: {remedy}")
    return (values.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8)


def eight_bits(values: np.ndarray, largest: int = 65535) -> np.ndarray:
    """Whole numbers in [0, largest] -> uint8, rounded: of files of 16 bits and of arrays, to train on and to score."""
    return ((values.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)


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
