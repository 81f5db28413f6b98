"""`cifar10`: its files in any of the forms they are handed on in."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from genzoo.cache import cache_dir, fetch
from genzoo.config import Config
from genzoo.data.files import Root, identify
from genzoo.data.tar import members, unpacked
from genzoo.errors import UserError
from genzoo.parts import Shape

MAX_FILE_BYTES = 64 << 20  # of one batch; the published ones have 31 MB


class CIFAR10:
    """60,000 colour photographs of ten classes, 32x32 (Krizhevsky 2009); 50,000 train, 10,000 test.

    Reads the "binary version" and the "python version", unpacked or as the downloaded .tar.gz. The files of the latter
    are pickles: the one string in them that is as long as the pixels is taken; nothing is ever loaded.
    """

    class Config(Config):
        root: Root | None = Field(
            None, description="folder that holds the files; null: the user's cache, downloaded when it is empty"
        )

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
        self.source = archive or fetch(self.config.root, [self.url], next(iter(archives)), self.checksum)
        self.suffix = archives[self.source]
        return self._identity([self.source])

    def _identity(self, paths: list[Path]) -> dict:
        counts = {split: len(files) * self.batch_images for split, files in self.batches.items()}
        return {"source": "CIFAR-10", "files": identify(paths), "num_images": counts}

    def read(self, split: str) -> Iterator[np.ndarray]:
        names = [f"{name}{self.suffix}" for name in self.batches[split]]
        contents = {} if self.source.is_dir() else self._archived(names)
        for name in names:
            if self.source.is_dir():
                with (self.source / name).open("rb") as file:
                    contents[name] = file.read(MAX_FILE_BYTES)
            pixels = self._pixels(contents.pop(name))
            if pixels.size != self.batch_images * 3072:
                raise UserError(
                    f"{self.source}: {name} is truncated or damaged: "
                    f"it does not hold {self.batch_images} images of 3 x 32 x 32"
                )
            yield np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))

    def _archived(self, names: list[str]) -> dict[str, bytes]:
        """The contents of those files in the archive, which is read once and whole: its checksum stands at its end."""
        folder = "cifar-10-batches-bin" if self.suffix else "cifar-10-batches-py"
        wanted, contents = {f"{folder}/{name}": name for name in names}, {}
        try:
            with self.source.open("rb") as file, unpacked(file) as (tar, _):
                for member, read in members(tar):
                    if member.name in wanted and member.size <= MAX_FILE_BYTES:
                        contents[wanted[member.name]] = read()
        except Exception as error:  # each kind of compression raises its own
            raise UserError(f"{self.source} is damaged or not CIFAR-10: {error}") from error
        if missing := sorted({*names} - {*contents}):
            raise UserError(f"{self.source} is damaged or not CIFAR-10: {', '.join(missing)} missing")
        return contents

    def _pixels(self, data: bytes) -> np.ndarray:
        if self.suffix == ".bin":  # a label before every image
            whole = len(data) == self.batch_images * 3073
            return np.frombuffer(data if whole else b"", np.uint8).reshape(-1, 3073)[:, 1:]
        num_bytes = self.batch_images * 3072
        for opcode in (b"T", b"B"):  # of a string in protocol 2, as it was published, and of bytes in later ones
            if (place := data.find(opcode + struct.pack("<I", num_bytes))) >= 0:
                return np.frombuffer(data[place + 5 : place + 5 + num_bytes], np.uint8)
        return np.empty(0, np.uint8)
