"""`mnist`, `fashion_mnist`, `cifar10`: torchvision's folder layouts and download addresses.

The files are read here rather than by torchvision: its MNIST holds a split in memory, its CIFAR-10 loads pickles.
"""

import gzip
import pickletools
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from pydantic import Field

from genzoo.cache import cache_dir, download
from genzoo.config import Config
from genzoo.data.files import Root, identify
from genzoo.errors import UserError
from genzoo.parts import Shape

ROOT = Field(None, description="folder that holds the files; null: the user's cache, downloaded when it is empty")
CHUNK = 1000  # images read at a time
MNIST_CRC32 = {"train": 0x90A92752, "test": 0x7EB3CD06}  # of the first image of each file


class MNIST:
    """70,000 handwritten digits of 28x28 (LeCun et al. 1998), padded with zeros; 60,000 train, 10,000 test."""

    class Config(Config):
        root: Root | None = ROOT
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
            with _open_idx(path) as (_, shape):
                expected = (self.num_images[split], 28, 28)
                if shape != expected:
                    raise UserError(f"{path} holds an array of {shape}, not the {expected} of {self.folder}")
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
        return _fetch(self.config, urls, folders[0] / f"{name}.gz", f"md5:{dict(source.resources)[f'{name}.gz']}")

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        num_images, path = self.num_images[split], self.paths[split]
        before = (self.config.size - 28) // 2
        pad = (before, self.config.size - 28 - before)
        with _open_idx(path) as (file, _):
            file.seek(start * 28 * 28, 1)
            for first in range(start, num_images, CHUNK):
                num = min(CHUNK, num_images - first)
                data = file.read(num * 28 * 28)
                if len(data) < num * 28 * 28:
                    raise UserError(
                        f"{path} is truncated (it ends in image {first + len(data) // (28 * 28)}): fetch it again"
                    )
                images = np.frombuffer(data, np.uint8).reshape(num, 28, 28, 1)
                yield np.pad(images, [(0, 0), pad, pad, (0, 0)])
            if file.read(1):  # and gzip compares its checksum at the end only
                raise UserError(f"{path} is longer than its {num_images} images: fetch it again")


class FashionMNIST(MNIST):
    """70,000 pictures of clothes in MNIST's format (Xiao et al., arXiv 1708.07747), padded with zeros."""

    folder = "FashionMNIST"

    def locate(self) -> dict:
        source = super().locate()
        for split, path in self.paths.items():
            with _open_idx(path) as (file, _):
                if zlib.crc32(file.read(28 * 28)) == MNIST_CRC32[split]:
                    raise UserError(f"{path} is MNIST's, whose files have the same names: set data.root to the other's")
        return source


class CIFAR10:
    """60,000 colour photographs of ten classes, 32x32 (Krizhevsky 2009); 50,000 train, 10,000 test.

    Reads the "binary version" and the "python version", unpacked or as the downloaded .tar.gz. The files of the latter
    are pickles: their pixels are found by walking the opcodes; nothing in them is ever executed.
    """

    class Config(Config):
        root: Root | None = ROOT

    image_shape: Shape = (3, 32, 32)
    splits = ("train", "test")
    batch_images: ClassVar[int] = 10000  # in every file
    batches: ClassVar[dict[str, list[str]]] = {
        "train": [f"data_batch_{number}" for number in range(1, 6)],
        "test": ["test_batch"],
    }
    url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    checksum: ClassVar[str] = "md5:c32a1d4ab5d03f1284b67883e8d87530"  # as the page that offers the file states it

    def __init__(self, config: Config):
        self.config = config

    def locate(self) -> dict:
        root = self.config.root or cache_dir() / "downloads" / "CIFAR10"
        files = [name for names in self.batches.values() for name in names]
        for name, suffix in (("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", "")):
            for folder in (root / name, root):
                if (folder / f"test_batch{suffix}").is_file():
                    paths = [folder / f"{file}{suffix}" for file in files]
                    missing = [path.name for path in paths if not path.is_file()]
                    if missing:
                        raise UserError(f"{folder} is not complete: {', '.join(missing)} missing")
                    self.source, self.suffix = folder, suffix
                    return self._identity(paths)
        archives = {root / "cifar-10-binary.tar.gz": ".bin", root / "cifar-10-python.tar.gz": ""}
        archive = next(filter(Path.is_file, archives), None)
        self.source = archive or _fetch(self.config, [self.url], next(iter(archives)), self.checksum)
        self.suffix = archives[self.source]
        return self._identity([self.source])

    def _identity(self, paths: list[Path]) -> dict:
        counts = {split: len(files) * self.batch_images for split, files in self.batches.items()}
        return {"source": "CIFAR-10", "files": identify(paths), "num_images": counts}

    def read(self, split: str) -> Iterator[np.ndarray]:
        for name in self.batches[split]:
            with self._open(name) as file:
                if self.suffix == ".bin":
                    size = self.batch_images * 3073
                    data = np.frombuffer(file.read(size + 1), np.uint8)
                    pixels = data.reshape(-1, 3073)[:, 1:] if len(data) == size else data
                else:
                    pixels = np.frombuffer(_longest_string(file), np.uint8)
            if pixels.size != self.batch_images * 3072:
                raise UserError(
                    f"{self.source}: {name}{self.suffix} is truncated or damaged: "
                    f"it does not hold {self.batch_images} images of 3 x 32 x 32"
                )
            yield np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if self.source.is_dir():
            with (self.source / f"{name}{self.suffix}").open("rb") as file:
                yield file
            return
        try:
            with tarfile.open(self.source) as archive:
                folder = "cifar-10-batches-bin" if self.suffix else "cifar-10-batches-py"
                yield archive.extractfile(f"{folder}/{name}{self.suffix}")
                while archive.fileobj.read(1 << 20):  # gzip compares its checksum at the end only
                    pass
        except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
            raise UserError(f"{self.source} is damaged or not CIFAR-10: {error}") from error


def _longest_string(file: IO[bytes]) -> bytes:
    """The longest string in a pickle, found by parsing its opcodes; up to where it breaks off, if it does."""
    longest = b""
    with suppress(ValueError):
        for _, value, _ in pickletools.genops(file):
            if isinstance(value, str) and len(value) > len(longest):  # protocol 2: bytes, shown as latin-1
                longest = value.encode("latin-1")
    return longest


@contextmanager
def _open_idx(path: Path) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """An idx3-ubyte file (http://yann.lecun.com/exdb/mnist), positioned at its first image, and its shape."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(16)
            if len(header) < 16 or header[:4] != b"\0\0\x08\x03":
                raise UserError(f"{path} is not an idx3-ubyte file of images")
            yield file, struct.unpack(">3I", header[4:])
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _fetch(config: MNIST.Config | CIFAR10.Config, urls: list[str], target: Path, checksum: str) -> Path:
    """Download into the user's cache; in a root of the user's own the file has to be there."""
    where = f"{target.name} is not in {target.parent}"
    if config.root is not None:
        raise UserError(f"{where}: fetch {urls[0]} and put it there, or leave data.root null to have it downloaded")
    try:
        download(urls, target, checksum)
    except OSError as error:
        raise UserError(
            f"{where} and cannot be downloaded ({error}); fetch {urls[0]} on another machine and put it there, "
            "or set data.root to a folder that has it; data.name=digits needs no download"
        ) from error
    return target
