"""`mnist`, `fashion_mnist`: torchvision's folder layouts and download addresses, read here."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from genzoo.cache import cache_dir, fetch
from genzoo.config import Config
from genzoo.data.files import Root, identify
from genzoo.errors import UserError
from genzoo.parts import Shape

HEADER_BYTES = 16  # of an idx3-ubyte file (http://yann.lecun.com/exdb/mnist): a magic number and the array's shape
MNIST_CRC32 = {"train": 0x90A92752, "test": 0x7EB3CD06}  # of the first image of each file


class MNIST:
    """70,000 handwritten digits of 28x28 (LeCun et al. 1998), padded with zeros; 60,000 train, 10,000 test."""

    class Config(Config):
        root: Root | None = Field(
            None, description="folder that holds the files; null: the user's cache, downloaded when it is empty"
        )
        size: int = Field(32, ge=28, le=256, description="height and width in pixels; the 28x28 images are padded")

    splits = ("train", "test")
    folder: ClassVar[str] = "MNIST"  # torchvision's class and folder name
    num_images: ClassVar[dict[str, int]] = {"train": 60000, "test": 10000}
    files: ClassVar[dict[str, str]] = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}

    def __init__(self, config: Config):
        self.config = config
        self.image_shape: Shape = (1, config.size, config.size)
        self.paths: dict[str, Path] = {}

    def locate(self) -> dict:
        self.paths = {split: self._find(name) for split, name in self.files.items()}
        for split, path in self.paths.items():
            header = _start(path, HEADER_BYTES)
            if len(header) < HEADER_BYTES or header[:4] != b"\0\0\x08\x03":
                raise UserError(f"{path} is not an idx3-ubyte file of images")
            found, expected = struct.unpack(">3I", header[4:]), (self.num_images[split], 28, 28)
            if found != expected:
                raise UserError(f"{path} holds an array of {found}, not the {expected} of {self.folder}")
        return {
            "source": self.folder,
            "files": identify(self.paths.values()),
            "processing": "padded with zeros on all sides",
            "num_images": self.num_images,
        }

    def _find(self, name: str) -> Path:
        root = self.config.root or cache_dir() / "downloads"
        folders = [root / self.folder / "raw", root / "raw", root]
        for path in (folder / (name + suffix) for folder in folders for suffix in ("", ".gz")):
            if path.is_file():
                return path
        import torchvision.datasets

        source = getattr(torchvision.datasets, self.folder)
        urls = [f"{mirror}{name}.gz" for mirror in source.mirrors]
        checksum = f"md5:{dict(source.resources)[f'{name}.gz']}"
        return fetch(self.config.root, urls, folders[0] / f"{name}.gz", checksum)

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        path, shape = self.paths[split], (self.num_images[split], 28, 28, 1)
        data = _start(path, HEADER_BYTES + prod(shape) + 1)[HEADER_BYTES:]
        if len(data) < prod(shape):
            raise UserError(f"{path} is truncated (it ends in image {len(data) // 784}): fetch it again")
        if len(data) > prod(shape):
            raise UserError(f"{path} is longer than its {shape[0]} images: fetch it again")
        before = (self.config.size - 28) // 2
        pad = (before, self.config.size - 28 - before)
        yield np.pad(np.frombuffer(data, np.uint8).reshape(shape)[start:], [(0, 0), pad, pad, (0, 0)])


class FashionMNIST(MNIST):
    """70,000 pictures of clothes in MNIST's format (Xiao et al., arXiv 1708.07747), padded with zeros."""

    folder = "FashionMNIST"

    def locate(self) -> dict:
        source = super().locate()
        for split, path in self.paths.items():
            if zlib.crc32(_start(path, HEADER_BYTES + 784)[HEADER_BYTES:]) == MNIST_CRC32[split]:
                raise UserError(f"{path} is MNIST's, whose files have the same names: set data.root to the other's")
        return source


def _start(path: Path, num_bytes: int) -> bytes:
    """The first bytes of a file, packed or not; where it is shorter, gzip's checksum has been compared."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(num_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
