"""One ordered map over many files, a few ahead of the reader: in threads, or in worker processes.

Pillow decodes without the interpreter's lock but opens, converts and copies under it: 0.2 ms of the 0.45 ms that a
64x64 PNG takes, so that threads stay at a few thousand such files a second, whatever the number of cores. Large images
are the other way round: handing 500x400 pixels from process to process costs more than the lock (412 a second with two
workers, 651 with two threads). Nothing here imports PyTorch: a worker starts in a third of a second.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from genzoo.allocator import keep_freed_memory
from genzoo.errors import UserError

MIN_FILES = 5000  # fewer are decoded before worker processes have started
MAX_MEAN_BYTES = 128 << 10  # of an image: larger ones are faster in threads
MAX_CHUNK_FILES, MAX_CHUNK_BYTES = 32, 1 << 20  # of one task

T = TypeVar("T")
R = TypeVar("R")
_num_workers: ContextVar[int] = ContextVar("num_workers", default=0)


class Budget:
    """Bytes that all readers of this process together may hold, of files and of images while they are decoded.

    What is larger than all of it goes alone. So memory depends neither on the number of cores nor on that of readers.
    """

    def __init__(self, num_bytes: int):
        self._free = num_bytes
        self._changed = threading.Condition()
        self._num_held = 0

    def take(self, num_bytes: int, anyway: bool) -> bool:
        """Whether so many bytes are taken, without waiting; anyway: even when they are not free."""
        with self._changed:
            if num_bytes > self._free and not anyway:
                return False
            self._free -= num_bytes
            return True

    def give(self, num_bytes: int) -> None:
        with self._changed:
            self._free += num_bytes
            self._changed.notify_all()

    @contextmanager
    def held(self, num_bytes: int) -> Iterator[None]:
        """Bytes that one thread needs for a while, once they are free: what a header says, where nobody knew before.

        Such a thread waits for none but others of its kind, which end by themselves.
        """
        with self._changed:
            self._changed.wait_for(lambda: num_bytes <= self._free or not self._num_held)
            self._free -= num_bytes
            self._num_held += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_held -= 1
            self.give(num_bytes)


BUDGET = Budget(256 << 20)


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


def each(
    work: Callable[[T], R], tasks: Iterable[T], num_bytes: Callable[[T], int], in_processes: bool = False
) -> Iterator[R]:
    """work(task) of every task, in order, whoever does the work.

    num_bytes: about what a task holds until its result is taken. in_processes: where `worker_processes` gives some and
    the tasks, a list, are many and small. UserError where a worker process dies.
    """
    num = _num_workers.get() if in_processes else 0
    if num > 1 and len(tasks) >= MIN_FILES and sum(map(num_bytes, tasks)) <= MAX_MEAN_BYTES * len(tasks):
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(num, context, initializer=_begin, initargs=(partial(_each, work),))
        run = _in_worker
    else:
        num = min(16, os.cpu_count() or 1)
        pool, run = ThreadPoolExecutor(num), partial(_each, work)
    todo = _chunks(tasks, num_bytes)
    ahead: deque[tuple[Future, int]] = deque()
    abandoned = False
    try:
        chunk, size = next(todo, ([], 0))
        while chunk or ahead:
            while chunk and len(ahead) < 2 * num and BUDGET.take(size, anyway=not ahead):
                ahead.append((pool.submit(run, chunk), size))
                chunk, size = next(todo, ([], 0))
            yield from ahead[0][0].result()
            BUDGET.give(ahead.popleft()[1])
    except GeneratorExit:
        abandoned = True  # by the garbage collection, too, which may stop a thread that holds locks others end with
        raise
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process that decodes images was killed or ran out of memory: give fewer --workers, or --workers 0"
        ) from error
    finally:
        pool.shutdown(wait=not abandoned, cancel_futures=True)
        BUDGET.give(sum(size for _, size in ahead))


def _chunks(tasks: Iterable[T], num_bytes: Callable[[T], int]) -> Iterator[tuple[list[T], int]]:
    chunk: list[T] = []
    held = 0
    for task in tasks:
        size = num_bytes(task)
        if chunk and (len(chunk) == MAX_CHUNK_FILES or held + size > MAX_CHUNK_BYTES):
            yield chunk, held
            chunk, held = [], 0
        chunk.append(task)
        held += size
    yield from [(chunk, held)] if chunk else []


def _each(work: Callable[[T], R], tasks: list[T]) -> list[R]:
    return [work(task) for task in tasks]


_work: Callable[[list[Any]], list] | None = None  # of this worker process: the tree is sent to it once


def _begin(work: Callable[[list[Any]], list]) -> None:
    global _work
    _work = work
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _in_worker(tasks: list[Any]) -> list:
    return _work(tasks)
