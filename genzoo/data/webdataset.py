"""`webdataset`: images in tar shards, on this machine or behind any address that fsspec opens."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from itertools import islice

import numpy as np
from pydantic import Field

from genzoo.data.encoded import Encoded, decode_stream, draw
from genzoo.data.files import MAX_FILE_BYTES
from genzoo.data.images import SUFFIXES
from genzoo.data.square import PROCESSING, SquareConfig, SquareImages
from genzoo.errors import UserError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class WebDataset(SquareImages):
    """The images of WebDataset shards: the central square, resized with antialiasing (bicubic).

    A sample is the members of one name up to its first dot (https://github.com/webdataset/webdataset); other members
    than its image are passed over. Shards are read once, in their order, as streams: nothing is unpacked, and memory
    holds the few images in work. Each address needs fsspec's package for it: s3:// s3fs, gs:// gcsfs, http:// aiohttp.
    """

    class Config(SquareConfig):
        root: str | None = Field(
            None, description="training shards: path/{000..099}.tar, a path with * or one file; or such a URL"
        )
        test: str | None = Field(
            None, description="test shards; null: a share of the samples, by a hash of their names"
        )
        test_fraction: float = Field(0.1, gt=0, lt=1, description="share of test images where `test` is null")
        image: str | None = Field(
            None, description="what follows the first dot in the name of a sample's image; null: any image suffix"
        )

    def locate(self) -> dict:
        if self.config.root is None:
            raise UserError("data.root is not set: give the shards, data.root='path/{000..099}.tar'")
        self.shards = {"train": _shards(self.config.root, "data.root")}
        self.shards["test"] = _shards(self.config.test, "data.test") if self.config.test else self.shards["train"]
        if self.config.test and (common := {*self.shards["train"]} & {*self.shards["test"]}):
            raise UserError(f"data.test: {min(common)} is one of the training shards, too")
        return {
            "shards": {split: [_identity(url) for url in urls] for split, urls in self.shards.items()},
            "split": "by shards"
            if self.config.test
            else f"test where sha256(name) / 2^256 < {self.config.test_fraction}",
            "processing": PROCESSING,
        }

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        skipped: list[str] | None = [] if self.config.skip_corrupt else None
        files = self._files(split)
        if skipped is None:
            files, start = islice(files, start, None), 0  # else the corrupt ones before are not known without decoding
        for images in decode_stream(files, self.image_shape, self.config.max_pixels, skipped):
            if len(images) > start:
                yield images[start:]
            start = max(0, start - len(images))
        self.notes[split] = {"skipped": skipped} if skipped else {}

    def _files(self, split: str) -> Iterator[Encoded]:
        """The images of a split in the order of the shards."""
        for url in self.shards[split]:
            last = None
            for name, data in _members(url, self._is_image):
                sample = name[: name.index(".", name.rfind("/") + 1)]
                if sample == last:
                    raise UserError(
                        f"{url}: the sample {sample!r} has several images; data.image says which: data.image=jpg"
                    )
                last = sample
                if self.config.test or (draw(sample) < self.config.test_fraction) == (split == "test"):
                    yield Encoded(f"{url}: {name}", data)

    def _is_image(self, name: str) -> bool:
        base = name.rpartition("/")[2]
        _, dot, extension = base.partition(".")
        if not dot or base.startswith("."):
            return False
        return f".{extension.lower()}" in SUFFIXES if self.config.image is None else extension == self.config.image


def _shards(pattern: str, key: str) -> list[str]:
    """The addresses a pattern stands for, in order. UserError when there are none, or one cannot be looked for."""
    import fsspec

    try:
        urls = []
        for url in _expand(pattern):
            files, _, paths = fsspec.get_fs_token_paths(url)
            found = [path for path in sorted(paths) if files.exists(path)]
            if not found:
                raise UserError(f"{key}: there is no shard {url}")
            urls += map(files.unstrip_protocol, found)
        return urls
    except (OSError, ImportError, ValueError) as error:
        raise UserError(f"{key}: {pattern} cannot be read: {error}") from error


def _expand(pattern: str) -> list[str]:
    """a/{08..10}.tar -> a/08.tar, a/09.tar, a/10.tar."""
    match = RANGE.search(pattern)
    if not match:
        return [pattern]
    first, last = match.groups()
    numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    return [url for number in numbers for url in _expand(pattern[: match.start()] + number + pattern[match.end() :])]


def _identity(url: str) -> dict:
    """Address, size, and what the store behind it gives to tell versions apart."""
    import fsspec

    files, path = fsspec.core.url_to_fs(url)
    info = files.info(path)
    version = next(
        (str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "updated") if key in info), None
    )
    return {"url": url, "num_bytes": info.get("size"), "version": version}


def _members(url: str, wanted) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the wanted files in a tar, read as a stream."""
    import fsspec

    try:
        with fsspec.open(url, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if not member.isreg() or not wanted(member.name):
                    continue
                if member.size > MAX_FILE_BYTES:
                    raise UserError(f"{url}: {member.name} is larger than {MAX_FILE_BYTES >> 20} MB")
                yield member.name, archive.extractfile(member).read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(f"{url} is damaged or cannot be read: {error}") from error
