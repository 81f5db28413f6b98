"""The processes of `accelerate launch` or `torchrun`: the main one goes first, and they end as one."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from genzoo.errors import Interrupted, UserError

if TYPE_CHECKING:
    from torch.distributed import Store

T = TypeVar("T")
_launches = count()
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets


class ProcessLost(RuntimeError):
    """Another process of the run has ended, so that this one cannot go on."""


@dataclass(frozen=True)
class Launch:
    """This process among those that were launched together; by default it is alone, and nothing here does anything.

    They talk through the launcher's key-value store, which unlike a collective has no time limit (preparing data and
    scoring may take hours) and which a process that failed can still reach. `sum`, `of_main` and `all` are collectives:
    all processes must call them.
    """

    rank: int = 0
    num: int = 1
    device: torch.device | None = None  # None where PyTorch may choose
    store: Store | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @contextmanager
    def first(self, name: str) -> Iterator[None]:
        """The body on the main process, then on the others. name: of this place in the program, used once."""
        while not self.is_main and not self.store.check([name]):
            if self.store.check(["code"]):  # the process that failed has said so
                raise SystemExit(int(self.store.get("code")))
            time.sleep(0.1)
        yield
        if self.is_main and self.num > 1:
            self.store.set(name, "done")

    @contextmanager
    def ends_as_one(self) -> Iterator[None]:
        """What fails inside is raised by the first process it happens to; the others leave quietly with its exit code.

        Raises ProcessLost where another process has ended without a word.
        """
        try:
            yield
        except Exception as error:
            atexit.unregister(_leave)  # it would wait for the others
            if self.num == 1:
                raise
            lost = _is_lost(error)
            if lost and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, which would cut the message off
            code = 2 if isinstance(error, UserError) else 130 if isinstance(error, Interrupted) else 1
            if self.store.add("speakers", 1) > 1:
                raise SystemExit(int(self.store.get("code")) if lost else code) from error
            self.store.set("code", str(code))
            if lost:
                raise _said(error) from error
            raise
        leave_at_exit()

    def share(self, num: int) -> np.ndarray:
        """The indices, of num images, that are this process's."""
        return np.arange(self.rank, num, self.num)

    def owns(self, batch: int) -> bool:
        """Whether the batch of that number is this process's."""
        return batch % self.num == self.rank

    def sum(self, x: Tensor) -> Tensor:
        """x added over the processes, on every one of them, on the CPU."""
        if self.num == 1:
            return x
        from accelerate import PartialState
        from accelerate.utils import reduce

        return reduce(x.to(PartialState().device), "sum").cpu()

    def of_main(self, value: T) -> T:
        """The main process's value, on every one of them."""
        if self.num == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def all(self, flag: bool) -> bool:
        """Whether it is set on every process."""
        return int(self.sum(torch.tensor(int(flag)))) == self.num


ALONE = Launch()


def launched() -> Launch:
    """The processes that `accelerate launch` or `torchrun` has started, joined; ALONE where there is no other.

    UserError where only some of a launcher's variables are set.
    """
    present = [name for name in LAUNCHER if name in os.environ]
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & set(present) and len(present) < len(LAUNCHER):
        missing = ", ".join(name for name in LAUNCHER if name not in present)
        raise UserError(
            f"the environment has {', '.join(present)} without {missing}, as launchers leave it: "
            f"`unset {' '.join(present)}`, or start with torchrun or accelerate launch"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    # Imported after the group is made, its default arguments would keep the group alive for ever.
    import torch.distributed.nn.functional
    from accelerate import PartialState
    from torch.distributed import PrefixStore
    from torch.distributed.distributed_c10d import _get_default_store

    num, num_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if num > num_gpus > 0:
        raise UserError(f"{num} processes were launched on a machine of {num_gpus} GPU(s): start one for each GPU")
    state = PartialState(cpu=not torch.accelerator.is_available())
    store = PrefixStore(f"genzoo/{next(_launches)}", _get_default_store())
    launch = Launch(state.process_index, state.num_processes, state.device, store)
    if not launch.is_main:
        logging.getLogger("genzoo").setLevel(logging.ERROR)
    return launch


def leave_at_exit() -> None:
    """After collectives that all have ended well: end gloo's threads before the interpreter does.

    One that still frees a tensor then aborts the process: it asks for the interpreter's lock, and Python ends threads
    that do so late in a way that C++ takes for an error ("terminate called without an active exception").
    """
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # what is left of a training may hold the group, whose threads end with the last reference
        torch.distributed.destroy_process_group()


def _is_lost(error: Exception) -> bool:
    """Whether it is a collective that failed: gloo's errors have no type of their own."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in ("gloo", "by peer"))


def _said(error: Exception) -> ProcessLost:
    lost = ProcessLost(
        "another process of this run has ended: it was killed, ran out of memory, or its machine is gone"
    )
    for note in getattr(error, "__notes__", ()):
        lost.add_note(note)
    return lost
