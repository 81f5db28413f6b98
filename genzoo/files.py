"""Files that are complete or absent, told apart by what is in them, and never written by two at once."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from genzoo.errors import UserError

log = logging.getLogger("genzoo")


@contextmanager
def replacing(path: Path, synced: bool = True) -> Iterator[IO[bytes]]:
    """A file to write, which becomes `path` when the body has ended well; several processes may write the same one.

    synced: on the disk before it has its name, so that a machine that goes down leaves the old file or the new one.
    UserError where a folder has the name already, or a file that of its folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{path} is to be written, and {path.parent} is no folder; move it away") from None
    if path.is_dir():
        raise UserError(f"{path} is to be written, and is a folder; move it away")
    part = ""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
            if synced:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(part, 0o644)  # mkstemp gives 0600
        os.replace(part, path)
        if synced:
            sync(path.parent)
    except OSError as error:
        # One without a number is not the system's, but says by itself what was wrong with what was to be written.
        own = error.filename is None or str(error.filename).startswith(str(path.parent / f".{path.name}."))
        if error.errno is not None and own:
            error.filename, error.filename2 = str(path), None  # not the name that it was to have meanwhile
        raise
    finally:
        if part:
            Path(part).unlink(missing_ok=True)


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A folder to fill, under a name of its own, which becomes `folder` when the body has ended well; else it is gone.

    UserError where `folder` holds anything already, also when another process has made it meanwhile.
    """
    refuse_filled(folder)
    check_writable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp gives 0700
        for path in [*part.iterdir(), part]:
            sync(path)
        try:
            part.rename(folder)  # takes the place of an empty folder, and of nothing else
        except OSError:
            refuse_filled(folder)
            raise
        sync(folder.parent)
    finally:
        delete(part)


def refuse_filled(folder: Path) -> None:
    """UserError unless the folder is not there, or empty."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UserError(f"{folder} exists: choose another place with --out")


def write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, otherwise: str) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no file, or a damaged one: a warning says so, and `otherwise`."""
    if not path.exists() and not path.is_symlink():
        return None
    try:
        refuse_device(path)
        made = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(made, dict):
            return made
        fault = f"it holds {type(made).__name__}, not an object"
    except (OSError, ValueError, RecursionError) as error:
        fault = str(error)
    log.warning("%s is damaged (%s): %s", path, fault, otherwise)
    return None


def refuse_device(path: Path) -> None:
    """OSError unless it is a regular file, perhaps by a link: a device or a pipe in its place would never end."""
    if not path.is_file():
        raise OSError(f"{path} is no regular file")


def sync(path: Path) -> None:
    """A file or a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(path: Path) -> None:
    """A file, a link or a whole folder; gone already is well."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, refusal: str = "", waiting: str = "") -> Iterator[None]:
    """Hold the lock file `path`. Where another process holds it: UserError(refusal), or the log says `waiting`."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_dir():
        raise UserError(f"{path} is not the file that a lock is; remove it")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if refusal:
            raise UserError(refusal) from None
        log.info(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_space(folder: Path, need: int, message: str) -> None:
    """UserError unless the disk of `folder` has room for `need` bytes more; `message` holds {need} and {free}."""
    if (free := shutil.disk_usage(_existing(folder)).free) < need:
        raise UserError(message.replace("{need}", size_of(need)).replace("{free}", size_of(free)))


def size_of(num_bytes: int) -> str:
    if num_bytes < 1e6:
        return f"{num_bytes:,} bytes"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.2f} GB"


def check_writable(path: Path) -> None:
    """UserError unless this can become a file, or a folder of files."""
    for place in (path.absolute(), *path.absolute().parents):
        if place.is_symlink() and not place.exists():
            gone = f"{place} is a link to {os.readlink(place)}, which is not there"
            raise UserError(f"{path}: {gone}; make that folder, remove the link, or choose another place with --out")
    existing = _existing(path)
    if existing != path.absolute() and not existing.is_dir():
        raise UserError(f"{path}: {existing} is no folder; choose another place with --out")
    if not os.access(existing, os.W_OK):
        raise UserError(f"{path}: {existing} cannot be written; choose another place with --out")


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
