"""Tar archives by anybody, read once from front to end; nothing is allocated that is not there.

Python's tarfile takes a header's word for sizes (3 GB of attributes, sparse members that are all hole, negative ones),
searches attributes in quadratic time, and takes any bad header for the end. Formats: POSIX 1003.1 ustar and pax, and
GNU's long names.
"""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Protocol

from genzoo.images.tree import FREE_BYTES, MAX_RATIO

BLOCK = 512
MAX_ATTRIBUTES = 1 << 20  # bytes that go before one member: long names, times, access rights
SPARSE = "sparse file"
KINDS = {b"1": "link", b"2": "link", b"3": "device", b"4": "device", b"5": "folder", b"6": "pipe", b"S": SPARSE}
WITHOUT_CONTENT = {*KINDS.values()} - {SPARSE}
PACKERS = {b"\x1f\x8b": gzip, b"BZ": bz2, b"\xfd7": lzma}  # by the first two bytes of what they write


class BadTar(ValueError):
    """What is wrong with an archive, and at which of its bytes."""


class Source(Protocol):
    def read(self, num_bytes: int, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    name: str
    size: int
    offset_data: int  # of its content in the archive
    kind: str  # "file", or what it is instead


def members(file: Source, num_bytes: int | None = None) -> Iterator[tuple[Member, Callable[[], bytes]]]:
    """Each member, with what reads its content; that works until the next one is asked for.

    num_bytes: of the whole archive, whose contents are then jumped over with `seek`; None: it is read as a stream.
    Raises BadTar.
    """
    tar, attributes = _Tar(file, num_bytes), {}
    while any(header := tar.read(BLOCK, "a header")):
        name, size, flag = _parsed(header, tar.position - BLOCK)
        if flag in (b"x", b"X", b"g", b"L", b"K"):
            if size > MAX_ATTRIBUTES:
                raise BadTar(f"at byte {tar.position}: {size:,} bytes of attributes of one member are too many")
            content = tar.read(size, "attributes")
            tar.skip(-size % BLOCK)
            if flag == b"L":
                attributes["path"] = content.rstrip(b"\0")
            elif flag != b"K":  # the target of a link
                attributes |= _records(content, tar.position)
            continue
        if "path" in attributes:
            name = attributes["path"].decode("utf-8", "surrogateescape")
        if "size" in attributes:
            size = _number(attributes["size"], 10, tar.position)
        kind = "file" if flag in (b"0", b"\0", b"7") else KINDS.get(flag, "member of an unknown kind")
        if any(key.startswith("GNU.sparse.") for key in attributes):
            kind = SPARSE
        elif kind == "file" and name.endswith("/"):  # as before 1988
            kind = "folder"
        attributes = {}
        more = flag == b"S" and header[482]
        while more:  # of the map of its holes
            more = tar.read(BLOCK, name)[504]
        size = 0 if kind in WITHOUT_CONTENT else size
        tar.must_have(size, name)
        end = tar.position + size + -size % BLOCK
        yield Member(name, size, tar.position, kind), partial(tar.read, size, name)
        tar.skip(end - tar.position)


class _Tar:
    """An archive and the place in it."""

    def __init__(self, file: Source, num_bytes: int | None):
        self._file, self._num_bytes, self.position = file, num_bytes, 0

    def must_have(self, num_bytes: int, what: str) -> None:
        if self._num_bytes is not None and self.position + num_bytes > self._num_bytes:
            raise BadTar(f"at byte {self.position}: the archive ends before {what!r} does")

    def read(self, num_bytes: int, what: str) -> bytes:
        self.must_have(num_bytes, what)
        pieces, left = [], num_bytes
        piece_bytes = num_bytes if self._num_bytes is not None else 1 << 20  # as much memory as there are bytes
        while left and (piece := self._file.read(min(left, piece_bytes))):
            pieces.append(piece)
            left -= len(piece)
        self.position += num_bytes - left
        if left:
            raise BadTar(f"at byte {self.position}: the archive ends before {what!r} does")
        return b"".join(pieces)

    def skip(self, num_bytes: int) -> None:
        if self._num_bytes is not None:
            self.must_have(num_bytes, "a member")
            self.position += num_bytes
            self._file.seek(self.position)
            return
        while num_bytes:
            num_bytes -= len(self.read(min(num_bytes, 1 << 20), "a member"))


def _parsed(header: bytes, position: int) -> tuple[str, int, bytes]:
    """Name, size, type flag."""
    summed = _number(header[148:156], 8, position)
    unsigned = 256 + sum(header[:148]) + sum(header[156:])
    signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])  # as some old programs summed
    if summed not in (unsigned, signed):
        raise BadTar(f"at byte {position}: that is no header of a tar (its checksum is wrong)")
    name = header[:100].partition(b"\0")[0]
    if header[257:262] == b"ustar" and header[257:265] != b"ustar  \0" and header[345]:  # GNU has other things there
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return name.decode("utf-8", "surrogateescape"), _number(header[124:136], 8, position), header[156:157]


def _number(field: bytes, base: int, position: int) -> int:
    """Digits; in a header also GNU's base 256, for sizes from 8 GB on."""
    if base == 8 and field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if len(digits) > 20 or not all(48 <= byte < 48 + base for byte in digits):
        raise BadTar(f"at byte {position}: {digits[:40]!r} is no size")
    return int(digits or b"0", base)


def _records(content: bytes, position: int) -> dict[str, bytes]:
    """Pax attributes: "LENGTH KEY=VALUE\\n" of LENGTH bytes each."""
    found, start = {}, 0
    while start < len(content):
        space = content.find(b" ", start, start + 9)
        length = content[start:space]
        if space < 0 or not length.isdigit() or not 0 < int(length) <= len(content) - start:
            raise BadTar(f"at byte {position}: the attributes of a member are damaged")
        key, _, value = content[space + 1 : start + int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value
        start += int(length)
    return found


@contextmanager
def unpacked(file: IO[bytes]) -> Iterator[tuple[Source, bool]]:
    """The archive in a file that may be compressed, by its first bytes, and whether it was.

    When the body has ended well, a compressed one is read to its end, where its checksum is compared.
    """
    whole = _Rejoined(file.read(2), file)
    if whole.first not in PACKERS:
        yield whole, False
        return
    with PACKERS[whole.first].open(whole) as inner:
        bounded = _Bounded(inner, whole)
        yield bounded, True
        while bounded.read(1 << 20):
            pass


class _Rejoined:
    """A stream, which cannot go back, with its first bytes before it again."""

    def __init__(self, first: bytes, file: IO[bytes]):
        self.first, self._left, self._file, self.num_read = first, first, file, len(first)

    def read(self, num_bytes: int = -1) -> bytes:
        left, self._left = self._left, b""
        data = left or self._file.read(num_bytes)
        self.num_read += 0 if left else len(data)
        return data

    def seek(self, position: int) -> None:
        self._left = b""
        self._file.seek(position)


class _Bounded:
    """What a file unpacks to, as long as it is in proportion."""

    def __init__(self, file: Source, packed: _Rejoined):
        self._file, self._packed, self._num_read = file, packed, 0

    def read(self, num_bytes: int) -> bytes:
        data = self._file.read(num_bytes)
        self._num_read += len(data)
        if self._num_read > FREE_BYTES + MAX_RATIO * self._packed.num_read:
            raise BadTar(f"it unpacks to more than {MAX_RATIO} times its size")
        return data
