"""`webdataset`: images in tar shards, on this machine or behind any address that fsspec opens."""

import bz2
import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice, starmap
from typing import IO

import numpy as np
from pydantic import Field

from genzoo.data.addresses import refuse
from genzoo.data.encoded import Encoded, decode, decode_stream, draw
from genzoo.data.files import MAX_FILE_BYTES, CorruptFile
from genzoo.data.images import SUFFIXES, attempt, in_order, read_from, usable
from genzoo.data.square import PROCESSING, SquareConfig, SquareImages
from genzoo.data.stream import ENTRY, Stream
from genzoo.errors import UserError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
PACKERS = {b"\x1f\x8b": gzip, b"BZ": bz2, b"\xfd7": lzma}  # by the first two bytes of what they write

Sample = tuple[int, str, tarfile.TarInfo, Callable[[], bytes]]  # shard, its address, the image's member, its reader


class WebDataset(SquareImages):
    """The images of WebDataset shards: the central square, resized with antialiasing (bicubic).

    A sample is the members of one name up to its first dot (https://github.com/webdataset/webdataset); other members
    than its image are passed over. Shards are read once, in their order, as streams: nothing is unpacked, and memory
    holds the few images in work. With `stream` only an index of them is prepared, 16 bytes an image, and training reads
    the shards, each process its own images. Each address needs fsspec's package for it: s3:// s3fs, gs:// gcsfs, http://
    aiohttp.
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
        stream: bool = Field(False, description="read (uncompressed) shards while training, instead of a prepared copy")
        buffer: int = Field(4096, ge=1, description="with stream: images shuffled together and read ahead")

    reading = {"buffer"}

    @property
    def streams(self) -> bool:
        return self.config.stream

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
        """Images, or with `stream` their entries."""

        def found(first: int, skipped: list[str] | None) -> Iterator[np.ndarray]:
            samples = islice(self._samples(split), first, None)
            if self.config.stream:
                return self._entries(samples, skipped)
            return decode_stream(starmap(_encoded, samples), self.image_shape, self.config.max_pixels, skipped)

        return read_from(self, split, start, found)

    def opened(self, split: str, entries: np.ndarray) -> Stream:
        config = self.config
        return Stream(entries, self.shards[split], self.image_shape, config.max_pixels, config.buffer)

    def _entries(self, samples: Iterator[Sample], skipped: list[str] | None) -> Iterator[np.ndarray]:
        """Where the images lie, by the tars' headers; images are read only to find corrupt ones to skip."""
        if skipped is not None:
            load = partial(decode, shape=self.image_shape, max_pixels=self.config.max_pixels)

            def checked(one: tuple[Sample, Encoded]) -> tuple[Sample, str, np.ndarray | CorruptFile]:
                sample, file = one
                return sample, file.place(""), attempt(load, file)

            read = ((sample, _encoded(*sample)) for sample in samples)
            samples = (sample for sample, place, image in in_order(checked, read) if usable(image, place, skipped))
        while some := list(islice(samples, 1024)):
            yield np.array([(shard, member.offset_data, member.size) for shard, _, member, _ in some], ENTRY)

    def _samples(self, split: str) -> Iterator[Sample]:
        """The images of a split in the order of the shards."""
        mode = "r:" if self.config.stream else "r|*"
        for number, url in enumerate(self.shards[split]):
            last = None
            for member, read in _members(url, mode, self._is_image):
                sample = member.name[: member.name.index(".", member.name.rfind("/") + 1)]
                if sample == last:
                    raise UserError(
                        f"{url}: the sample {sample!r} has several images; data.image says which: data.image=jpg"
                    )
                last = sample
                if self.config.test or (draw(sample) < self.config.test_fraction) == (split == "test"):
                    yield number, url, member, read

    def _is_image(self, name: str) -> bool:
        base = name.rpartition("/")[2]
        _, dot, extension = base.partition(".")
        if not dot or base.startswith("."):
            return False
        return f".{extension.lower()}" in SUFFIXES if self.config.image is None else extension == self.config.image


def _shards(pattern: str, key: str) -> list[str]:
    """The addresses a pattern stands for, in order. UserError when there are none, or one cannot be looked for."""
    import fsspec

    refuse(pattern, key)
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


def _encoded(shard: int, url: str, member: tarfile.TarInfo, read: Callable[[], bytes]) -> Encoded:
    return Encoded(f"{url}: {member.name}", read())


def _members(url: str, mode: str, wanted) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """The wanted files in a tar, each with what reads it; mode: r|* for a stream, r: to jump from header to header."""
    import fsspec

    def content(member: tarfile.TarInfo) -> bytes:
        with _reading(url, mode):
            return archive.extractfile(member).read()

    with (
        _reading(url, mode),
        fsspec.open(url, "rb") as source,
        _unpacked(source, mode) as file,
        tarfile.open(fileobj=file, mode=mode, tarinfo=_StrictInfo) as archive,
    ):
        for member in archive:
            if not member.isreg() or not wanted(member.name):
                continue
            if member.size > MAX_FILE_BYTES:
                raise UserError(f"{url}: {member.name} is larger than {MAX_FILE_BYTES >> 20} MB")
            yield member, partial(content, member)


@contextmanager
def _unpacked(file: IO[bytes], mode: str) -> Iterator[IO[bytes]]:
    """The tar in a shard that may be compressed; the checksum of it all is compared at the end (tarfile does not)."""
    if mode == "r:":
        yield file
        return
    whole = _Rejoined(file.read(2), file)
    if whole.first not in PACKERS:
        yield whole
        return
    with PACKERS[whole.first].open(whole) as unpacked:
        yield unpacked
        while unpacked.read(1 << 20):
            pass


class _Rejoined:
    """A stream, which cannot go back, with its first bytes before it again."""

    def __init__(self, first: bytes, file: IO[bytes]):
        self.first, self._left, self._file = first, first, file

    def read(self, num_bytes: int = -1) -> bytes:
        left, self._left = self._left, b""
        return left or self._file.read(num_bytes)


class _StrictInfo(tarfile.TarInfo):
    """A member's header; only blocks of zeros end the archive, where TarFile takes any bad header for its end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except (tarfile.EmptyHeaderError, tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(f"at byte {archive.offset}: {error}") from error


@contextmanager
def _reading(url: str, mode: str) -> Iterator[None]:
    """What goes wrong with the shard becomes a UserError that names it."""
    try:
        yield
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        remedy = " (data.stream needs uncompressed shards)" if mode == "r:" else ""
        raise UserError(f"{url} is damaged or cannot be read: {error}{remedy}") from error
