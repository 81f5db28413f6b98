"""Trees of files, in a folder or in a zip, and single files by the names that messages give them."""

import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from genzoo.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
MAX_FILE_BYTES = 256 << 20  # of one file, unpacked


class CorruptFile(UserError):
    """One file of many cannot be used; `skip_corrupt` leaves it out."""


class File(Protocol):
    """One encoded image, not yet read. place: what messages call it; name: the same, without where its tree is."""

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> str: ...

    @property
    def num_bytes(self) -> int: ...

    def read(self) -> bytes | memoryview:
        """Raises CorruptFile."""


@dataclass(frozen=True)
class Encoded:
    """A file out of an archive or a table. data: or why there is none."""

    place: str
    data: bytes | memoryview | Exception

    @property
    def name(self) -> str:
        return self.place

    @property
    def num_bytes(self) -> int:
        return 0 if isinstance(self.data, Exception) else len(self.data)

    def read(self) -> bytes | memoryview:
        if isinstance(self.data, Exception):
            raise CorruptFile(f"{self.place} cannot be read: {self.data}") from self.data
        if len(self.data) > MAX_FILE_BYTES:
            raise CorruptFile(f"{self.place} is larger than {MAX_FILE_BYTES >> 20} MB")
        return self.data


@dataclass(frozen=True)
class Member:
    """A file of a tree."""

    tree: "Tree"
    name: str

    @property
    def place(self) -> str:
        return self.tree.place(self.name)

    @property
    def num_bytes(self) -> int:
        return self.tree.num_bytes(self.name)

    def read(self) -> bytes:
        return self.tree.read(self.name)


class Tree:
    """The files under a folder, or inside a zip (read in place, never unpacked), by relative path with slashes.

    Hidden files and macOS resource forks are left out; links to folders are followed, loops are not. A zip with an
    encrypted member, one that points outside it, or one that is too large is refused as a whole.
    """

    def __init__(self, root: Path, suffixes: tuple[str, ...]):
        self.root = root
        self._zip: zipfile.ZipFile | None = None
        self._members: dict[str, str] = {}  # of a zip: their own names, which some Windows programs write with \\
        if not root.exists():
            raise UserError(f"there is no folder or zip file {root.absolute()}")
        try:
            if root.is_dir():
                found = dict(_walk(root, suffixes))
            else:
                self._zip = zipfile.ZipFile(root)
                members = [info for info in self._zip.infolist() if _wanted(_slashes(info.filename), suffixes)]
                _check_members(self._zip.infolist(), members, root)
                self._members = {_slashes(info.filename): info.filename for info in members}
                found = {_slashes(info.filename): (info.file_size, info.CRC) for info in members}
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise UserError(f"{root} is neither a folder nor a readable zip file: {error}") from error
        except OSError as error:
            raise UserError(f"{root} cannot be read: {error}") from error
        self._found: dict[str, tuple[int, int]] = dict(sorted(found.items()))  # name -> (bytes, time or checksum)
        self.names = list(self._found)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_zip": None if self._zip is None else self.root}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self._zip is not None:
            self._zip = zipfile.ZipFile(self.root)  # a handle of its own in each process

    def files(self, names: Iterable[str]) -> Iterator[Member]:
        return (Member(self, name) for name in names)

    def num_bytes(self, name: str) -> int:
        return self._found[name][0]

    def identity(self) -> dict:
        """Path, number of files, and a digest of their names, sizes and times (in a zip: checksums)."""
        listing = "\n".join(f"{name} {size} {stamp}" for name, (size, stamp) in self._found.items())
        return {
            "path": str(self.root.resolve()),
            "num_files": len(self.names),
            "listing_sha256": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest(),
        }

    def read(self, name: str) -> bytes:
        """The content of one file; safe from several threads. Raises CorruptFile."""
        if self.num_bytes(name) > MAX_FILE_BYTES:
            raise CorruptFile(f"{self.place(name)} is larger than {MAX_FILE_BYTES >> 20} MB")
        try:
            if self._zip is None:
                return (self.root / name).read_bytes()
            # Asked for the stated size, zipfile unpacks no more than that, and compares the checksum there; asked for
            # "all", it would first unpack whatever there is.
            with self._zip.open(self._members[name]) as member:
                return member.read(self.num_bytes(name))
        except Exception as error:  # zlib, zipfile and the file system each have their own
            raise CorruptFile(f"{self.place(name)} cannot be read: {error}") from error

    def place(self, name: str) -> str:
        """The file's name in a message, which stays one line whatever characters are in it."""
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
        return f"{self.root}{'/' if self._zip is None else ': '}{shown}"


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    *folders, base = name.split("/")
    hidden = any(part.startswith(".") for part in (*folders, base)) or "__MACOSX" in folders
    return base.lower().endswith(suffixes) and not hidden


def _check_members(everything: list[zipfile.ZipInfo], wanted: list[zipfile.ZipInfo], archive: Path) -> None:
    for info in everything:
        path = PurePosixPath(_slashes(info.filename))
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", info.filename):
            raise UserError(f"{archive} is refused: its member {info.filename!r} points outside the archive")
    for info in wanted:
        problem = ""
        if info.flag_bits & 1:
            problem = "is encrypted"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "is neither stored nor deflated"  # zipfile unpacks a block of the others to whatever it grows to
        elif info.file_size > MAX_FILE_BYTES:
            problem = f"unpacks to {info.file_size >> 20} MB, more than {MAX_FILE_BYTES >> 20} MB"
        if problem:
            raise UserError(f"{archive} is refused: its member {info.filename!r} {problem}")


def _walk(root: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, int]]]:
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_fail):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link back, or a second link to the same place
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        prefix = "" if folder == str(root) else f"{Path(folder).relative_to(root).as_posix()}/"
        for name in files:
            if _wanted(prefix + name, suffixes):
                try:
                    status = os.stat(os.path.join(folder, name))
                except OSError:  # a broken link: reading it will say so
                    yield prefix + name, (0, 0)
                else:
                    if stat.S_ISREG(status.st_mode):
                        yield prefix + name, (status.st_size, status.st_mtime_ns)


def _fail(error: OSError) -> None:
    raise error
