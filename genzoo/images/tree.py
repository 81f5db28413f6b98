"""Trees of files, in a folder or in a zip, and single files by the names that messages give them."""

import hashlib
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from genzoo.errors import UserError, shortened
from genzoo.images.kinds import TORCH, kind

SUFFIXES = tuple(
    [".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"]
)
MAX_FILE_BYTES = 256 << 20  # of one file, unpacked
MAX_RATIO, FREE_BYTES = 100, 256 << 20  # a packed archive is given up when it unpacks to more; images hardly shrink


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


class Reasons:
    """Counts of what a reader passed over, by reason; of very many reasons the rarer ones together."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return ", ".join(f"{num:,} {reason}" for reason, num in self.counts.most_common())

    def add(self, reason: str) -> None:
        reason = shortened(reason, 40)
        self.counts[reason if reason in self.counts or len(self.counts) < 20 else "of other kinds"] += 1

    def notes(self) -> dict[str, dict[str, int]]:
        """What stands in the split's card, empty where nothing was passed over."""
        return {"passed_over": dict(self.counts.most_common())} if self.counts else {}


class Tree:
    """The files under a folder, or inside a zip (read in place, never unpacked), by relative path with slashes.

    Hidden files and macOS resource forks are left out; links to folders are followed, loops are not. A zip with an
    encrypted member, one that points outside it, or one that is too large is refused as a whole.
    """

    def __init__(self, root: Path, suffixes: tuple[str, ...]):
        self.root = root
        self._zip: zipfile.ZipFile | None = None
        self._members: dict[str, str] = {}  # of a zip: their own names, which some Windows programs write with \\
        self._suffixes, self.passed_over = suffixes, Reasons()
        if not root.exists():
            raise UserError(f"there is no folder or zip file {root.absolute()}")
        try:
            if root.is_dir():
                found = dict(_walk(root, suffixes, self.passed_over))
            elif not root.is_file():
                raise UserError(f"{root} is neither a folder nor a regular file")
            else:
                self._zip = zipfile.ZipFile(root)
                members = []
                for info in self._zip.infolist():
                    if not (reason := _unwanted(_slashes(info.filename), suffixes)):
                        members.append(info)
                    elif not info.is_dir():
                        self.passed_over.add(reason)
                _check_members(self._zip.infolist(), members, root)
                self._members = {_slashes(info.filename): info.filename for info in members}
                for _ in range(len(members) - len(self._members)):
                    self.passed_over.add("of a name that comes again")
                found = {_slashes(info.filename): (info.file_size, info.CRC) for info in members}
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"{root} cannot be read: {error}") from error
        except Exception as error:  # zipfile raises some five kinds on bad archives
            what = kind(root) or f"neither a folder nor a readable zip file: {error}"
            raise UserError(f"{root} is {what}") from error
        self._found: dict[str, tuple[int, int]] = dict(sorted(found.items()))  # name -> (bytes, time or checksum)
        self.names = list(self._found)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_zip": None if self._zip is None else self.root}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self._zip is not None:
            self._zip = zipfile.ZipFile(self.root)  # a handle of its own in each process

    def refuse_empty(self) -> None:
        """UserError that says what there is instead, unless there are files."""
        if self.names:
            return
        if self._zip and any(info.filename.endswith("data.pkl") for info in self._zip.infolist()):
            raise UserError(f"{self.root} is {TORCH}")
        raise UserError(
            f"there are no images in {self.root}: no image files ({' '.join(self._suffixes)})"
            + (f", and passed over were {self.passed_over}" if self.passed_over else "")
        )

    def folders(self, names: Iterable[str]) -> Counter[str]:
        """How many of the names lie in which folder, below those that are around all of the tree."""
        around = os.path.commonpath([name.rpartition("/")[0] for name in (self.names[0], self.names[-1])])
        below = len(around) + bool(around)
        return Counter(name[below:].split("/")[0] if "/" in name[below:] else "." for name in names)

    def told(self, names: Sequence[str]) -> str:
        """How many images they are, and of which folders, in words."""
        folders = self.folders(names).most_common()
        words = [f"{num:,} from {self.shown(folder)}" for folder, num in folders[:5]]
        more = f" and {sum(num for _, num in folders[5:]):,} from {len(folders) - 5} more folders" * (len(folders) > 5)
        return f"{len(names):,} images" + (f": {', '.join(words)}{more}" if len(folders) > 1 else "")

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
                with (self.root / name).open("rb") as file:
                    data = file.read(self.num_bytes(name) + 1)
                if len(data) > self.num_bytes(name):
                    raise ValueError("it has grown since it was found")
                return data
            # Asked for the stated size, zipfile unpacks no more than that, and compares the checksum there; asked for
            # "all", it would first unpack whatever there is.
            with self._zip.open(self._members[name]) as member:
                return member.read(self.num_bytes(name))
        except Exception as error:  # zlib, zipfile and the file system each have their own
            raise CorruptFile(f"{self.place(name)} cannot be read: {error}") from error

    def place(self, name: str) -> str:
        """The file's name in a message, which stays one line whatever characters are in it."""
        return f"{self.root}{'/' if self._zip is None else ': '}{self.shown(name)}"

    @staticmethod
    def shown(name: str) -> str:
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _hidden(folder: str) -> bool:
    return folder.startswith(".") or folder == "__MACOSX"


def _unwanted(name: str, suffixes: tuple[str, ...]) -> str:
    """Why a file is passed over, in words; empty where it is wanted."""
    *folders, base = name.split("/")
    if any(map(_hidden, folders)) or base.startswith("."):
        return "hidden"
    if base.lower().endswith(suffixes):
        return ""
    return f".{base.rpartition('.')[2]}" if "." in base else "without a suffix"


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
    if sum(info.file_size for info in wanted) > FREE_BYTES + MAX_RATIO * archive.stat().st_size:
        raise UserError(f"{archive} is refused: it unpacks to more than {MAX_RATIO} times its size")


def _walk(root: Path, suffixes: tuple[str, ...], passed_over: Reasons) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (bytes, time)) of the wanted files, however deep: a thousand folders in each other are no recursion."""
    seen = set()
    todo = [""]  # of a link back, or a second link to the same place, the first in the order of names counts
    while todo:
        prefix = todo.pop()
        status = os.stat(root / prefix)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders = []
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name, folder = prefix + entry.name, _is_folder(entry)
                if folder and _hidden(entry.name):
                    passed_over.add("hidden folders")
                elif folder:
                    folders.append(f"{name}/")
                elif reason := _unwanted(entry.name, suffixes):
                    passed_over.add(reason)
                else:
                    try:
                        status = entry.stat()
                    except OSError:  # a broken link: reading it will say so
                        yield name, (0, 0)
                        continue
                    if stat.S_ISREG(status.st_mode):
                        yield name, (status.st_size, status.st_mtime_ns)
                    else:
                        passed_over.add("no regular files")
        todo += sorted(folders, reverse=True)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
