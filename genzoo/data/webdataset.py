"""`webdataset`: images in tar shards, on this machine or behind any address that fsspec opens."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from glob import has_magic, iglob
from itertools import islice, product, starmap
from math import prod

import numpy as np
from pydantic import Field

from genzoo.data.addresses import refuse
from genzoo.data.square import SquareConfig, SquareImages, decode, decode_all, draw, read_from, usable
from genzoo.data.stream import ENTRY, Stream
from genzoo.data.tar import SPARSE, BadTar, Member, members, unpacked
from genzoo.errors import UserError, quoted
from genzoo.images.pool import each
from genzoo.images.tree import MAX_FILE_BYTES, SUFFIXES, CorruptFile, Encoded, Reasons

RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}", re.ASCII)
MAX_SHARDS = 100_000
MAX_SAMPLES = 4_000_000  # of a shard, whose names are held to find a second image of one

Sample = tuple[int, str, Member, Callable[[], bytes]]  # shard, its address, the image's member, its reader


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
        buffer: int = Field(4096, ge=1, le=2**24, description="with stream: images shuffled together and read ahead")

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
            "processing": self.processing,
        }

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        """Images, or with `stream` their entries."""
        self._over = Reasons()

        def found(first: int, skipped: list[str] | None) -> Iterator[np.ndarray]:
            samples = islice(self._samples(split), first, None)
            if self.config.stream:
                return self._entries(samples, skipped)
            files = starmap(_encoded, samples)
            return decode_all(files, self.image_shape, skipped, max_pixels=self.config.max_pixels)

        yield from read_from(self, split, start, found)
        self.notes[split] |= self._over.notes()

    def opened(self, split: str, entries: np.ndarray) -> Stream:
        config = self.config
        return Stream(entries, self.shards[split], self.image_shape, config.max_pixels, config.buffer)

    def _entries(self, samples: Iterator[Sample], skipped: list[str] | None) -> Iterator[np.ndarray]:
        """Where the images lie, by the tars' headers; images are read only to find corrupt ones to skip."""
        if skipped is not None:
            load = partial(decode, shape=self.image_shape, max_pixels=self.config.max_pixels)

            def checked(one: tuple[Sample, Encoded]) -> tuple[Sample, str, np.ndarray | CorruptFile]:
                sample, file = one
                return sample, file.place, load(file)

            read = ((sample, _encoded(*sample)) for sample in samples)
            found = each(checked, read, lambda one: one[1].num_bytes + prod(self.image_shape))
            samples = (sample for sample, place, image in found if usable(image, place, skipped))
        while some := list(islice(samples, 1024)):
            yield np.array([(shard, member.offset_data, member.size) for shard, _, member, _ in some], ENTRY)

    def _samples(self, split: str) -> Iterator[Sample]:
        """The images of a split in the order of the shards."""
        for number, url in enumerate(self.shards[split]):
            seen: set[str] = set()
            for member, read in _members(url, self.config.stream):
                if reason := self._passed_over(member):
                    self._over.add(reason)
                    continue
                name = _sample(member.name)
                if name in seen:  # wherever in the shard: pictures may come first and their masks after all of them
                    remedy = "make the shard anew" if self.config.image else "data.image says which: data.image=jpg"
                    raise UserError(f"{url}: the sample {quoted(name)} has several images; {remedy}")
                if len(seen) == MAX_SAMPLES:
                    raise UserError(f"{url} has more than {MAX_SAMPLES:,} samples: make several shards of it")
                seen.add(name)
                if member.kind == SPARSE or member.size > MAX_FILE_BYTES:
                    problem = f"larger than {MAX_FILE_BYTES >> 20} MB" if member.kind != SPARSE else f"a {SPARSE}"
                    raise UserError(f"{url}: {quoted(member.name)} is {problem}")
                if self.config.test or (draw(name) < self.config.test_fraction) == (split == "test"):
                    yield number, url, member, read

    def _passed_over(self, member: Member) -> str:
        """Why a member is not a sample's image; empty where it is."""
        if member.kind == "folder":
            return "folders"
        base = member.name.rpartition("/")[2]
        if member.kind not in ("file", SPARSE):
            return f"{member.kind}s"
        if "." not in base or base.startswith("."):
            return "without a suffix or hidden"
        return "" if self._is_image(member.name) else f"of kind .{base.partition('.')[2]}"

    def _is_image(self, name: str) -> bool:
        extension = name.rpartition("/")[2].partition(".")[2]
        return f".{extension.lower()}" in SUFFIXES if self.config.image is None else extension == self.config.image


def _sample(name: str) -> str:
    return name[: name.index(".", name.rfind("/") + 1)]


def _shards(pattern: str, key: str) -> list[str]:
    """The addresses a pattern stands for, in order. UserError when there are none, or one cannot be looked for."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    refuse(pattern, key)
    if "**" in pattern:
        raise UserError(f"{key}: {quoted(pattern)}: `**` is not looked for; name the folders, with * in their names")
    num = prod(max(0, int(last) - int(first) + 1) for first, last in RANGE.findall(pattern))
    if num > MAX_SHARDS:
        raise UserError(f"{key}: {quoted(pattern)} stands for {num:,} shards; at most {MAX_SHARDS:,} are read")
    try:
        urls = []
        for url in _expand(pattern):
            files, path = fsspec.core.url_to_fs(url)
            if not has_magic(path) or files.exists(path):
                found = [path] if files.exists(path) else []
            elif isinstance(files, LocalFileSystem):  # whose own glob looks into every folder
                found = sorted(islice(iglob(path), MAX_SHARDS + 1))
            else:
                found = sorted(files.glob(path))
            if not found:
                raise UserError(f"{key}: there is no shard {quoted(url)}")
            if others := [path for path in found if files.info(path)["type"] != "file"]:
                raise UserError(f"{key}: {quoted(others[0])} is not a file")
            urls += map(files.unstrip_protocol, found)
            if len(urls) > MAX_SHARDS:
                raise UserError(f"{key}: {quoted(pattern)} stands for more than {MAX_SHARDS:,} shards")
    except UserError:
        raise
    except Exception as error:  # each kind of store raises its own
        raise UserError(f"{key}: {quoted(pattern)} cannot be read: {error}") from error
    if not urls:
        raise UserError(f"{key}: {quoted(pattern)} stands for no shard: its numbers go down")
    return urls


def _expand(pattern: str) -> Iterator[str]:
    """a/{08..10}.tar -> a/08.tar, a/09.tar, a/10.tar."""
    pieces = RANGE.split(pattern)  # text, first, last, text, ...
    ranges = [
        [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        for first, last in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    for numbers in product(*ranges):
        yield pieces[0] + "".join(number + text for number, text in zip(numbers, pieces[3::3], strict=True))


def _identity(url: str) -> dict:
    """Address, size, and what the store behind it gives to tell versions apart."""
    import fsspec

    files, path = fsspec.core.url_to_fs(url)
    info = files.info(path)
    version = next(
        (str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "updated") if key in info), None
    )
    return {"url": url, "num_bytes": info.get("size"), "version": version}


def _encoded(shard: int, url: str, member: Member, read: Callable[[], bytes]) -> Encoded:
    return Encoded(f"{url}: {member.name}", read())


def _members(url: str, stream: bool) -> Iterator[tuple[Member, Callable[[], bytes]]]:
    """The members of a shard, each with what reads it. stream: their places will be kept, so it must not be packed."""
    import fsspec

    def content(read: Callable[[], bytes]) -> bytes:
        with _reading(url):
            return read()

    with _reading(url), fsspec.open(url, "rb") as source, unpacked(source) as (file, packed):
        if packed and stream:
            raise BadTar("it is compressed (data.stream needs uncompressed shards)")
        num_bytes = None if packed else getattr(source, "size", None)
        for member, read in members(file, num_bytes):
            yield member, partial(content, read)


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """What goes wrong with the shard becomes a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each kind of store and of compression raises its own
        raise UserError(f"{url} is damaged or cannot be read: {error}") from error
