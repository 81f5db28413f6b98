"""Image files -> uint8 arrays, a few files ahead of the reader: in threads, or in worker processes.

Pillow decodes without the interpreter's lock but opens, converts and copies under it: 0.2 ms of the 0.45 ms that a
64x64 PNG takes, so that threads stay at a few thousand such files a second, whatever the number of cores. Large images
are the other way round: handing 500x400 pixels from process to process costs more than the lock (412 a second with two
workers, 651 with two threads). Nothing here imports PyTorch: a worker starts in a third of a second.
"""

import hashlib
import io
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from genzoo.allocator import keep_freed_memory
from genzoo.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # not all that Pillow reads: some run programs
MAX_PIXELS = 100_000_000
MIN_FILES = 5000  # fewer are decoded before worker processes have started
MAX_MEAN_BYTES = 128 << 10  # of an image: larger ones are faster in threads
MAX_CHUNK_FILES, MAX_CHUNK_BYTES = 32, 1 << 20  # of one task

T = TypeVar("T")
_num_workers: ContextVar[int] = ContextVar("num_workers", default=0)


class Tree(Protocol):
    """Files under a folder or in a zip. Pickled, it reads the same files in another process."""

    names: list[str]

    def read(self, name: str) -> bytes: ...

    def place(self, name: str) -> str: ...


@contextmanager
def worker_processes(num: int) -> Iterator[None]:
    """Inside, `num` processes decode sides of many small images; 0 or 1: threads of this process do, as all others.

    The workers are spawned, so a script that calls this needs its `if __name__ == "__main__":`.
    """
    token = _num_workers.set(num)
    try:
        yield
    finally:
        _num_workers.reset(token)


def look(tree: Tree, name: str) -> tuple[bytes, tuple[int, int], str, str] | str:
    """(sha256, (width, height), mode, format) from the header, or what is wrong."""
    data = tree.read(name)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}"
            if image.mode.startswith(("I", "F")):
                return f"mode {image.mode} has more than 8 bits a channel: convert it to 8 bits"
            return hashlib.sha256(data).digest(), image.size, image.mode, image.format or ""
    except UnidentifiedImageError:
        return f"no image of the formats {', '.join(FORMATS)}"
    except Exception as error:  # Pillow's readers raise some ten kinds on bad files
        return str(error)


def decode(tree: Tree, name: str) -> np.ndarray:
    """uint8 h w 1|3, as clean-fid reads it: `convert("RGB")`, nothing turned, cropped or laid on a background."""
    data = tree.read(name)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        return np.atleast_3d(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")))
    except Exception as error:  # Pillow's readers raise some ten kinds on bad files
        raise UserError(f"{tree.place(name)} cannot be decoded: {error}") from error


def each(function: Callable[[Tree, str], T], tree: Tree, names: list[str], num_bytes: list[int]) -> Iterator[T]:
    """function(tree, name) of every name, in order, whoever does the work. num_bytes: about what each result holds.

    UserError where a worker process dies.
    """
    num = _num_workers.get()
    if num > 1 and len(names) >= MIN_FILES and sum(num_bytes) <= MAX_MEAN_BYTES * len(names):
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(num, context, initializer=_begin, initargs=(partial(_each, function, tree),))
        work = _in_worker
    else:
        num = min(16, os.cpu_count() or 1)
        pool, work = ThreadPoolExecutor(num), partial(_each, function, tree)
    todo = _chunks(names, num_bytes)
    try:
        ahead = deque(pool.submit(work, chunk) for chunk in islice(todo, 2 * num))
        while ahead:
            made = ahead.popleft().result()
            ahead.extend(pool.submit(work, chunk) for chunk in islice(todo, 1))
            yield from made
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process that decodes images was killed or ran out of memory: give fewer --workers, or --workers 0"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(names: list[str], num_bytes: list[int]) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for name, size in zip(names, num_bytes, strict=True):
        if chunk and (len(chunk) == MAX_CHUNK_FILES or held + size > MAX_CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(name)
        held += size
    yield from [chunk] if chunk else []


def _each(function: Callable[[Tree, str], T], tree: Tree, names: list[str]) -> list[T]:
    return [function(tree, name) for name in names]


_work: Callable[[list[str]], list] | None = None  # of this worker process: the tree is sent to it once


def _begin(work: Callable[[list[str]], list]) -> None:
    global _work
    _work = work
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _in_worker(names: list[str]) -> list:
    return _work(names)
