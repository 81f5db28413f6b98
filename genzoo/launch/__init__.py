"""The processes of `accelerate launch` or `torchrun` that do one thing together; as a rule, this one alone."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from genzoo.errors import UserError

T = TypeVar("T")
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets


@dataclass(frozen=True)
class Launch:
    """This process, alone. One of several is a genzoo.launch.several.Several, which does what is said here.

    `sum`, `of_main` and `all` are collectives: all processes must call them.
    """

    rank: int = 0
    num: int = 1
    device: torch.device | None = None  # None where PyTorch may choose

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def first(self, name: str) -> AbstractContextManager[None]:
        """The body on the main process, then on the others. name: of this place in the program, used once."""
        return nullcontext()

    @contextmanager
    def ends_as_one(self) -> Iterator[None]:
        """What fails inside is raised by the first process it happens to; the others leave quietly with its exit code.

        Raises ProcessLost where another process has ended without a word.
        """
        yield
        leave_at_exit()

    def share(self, num: int) -> np.ndarray:
        """The indices, of num images, that are this process's."""
        return np.arange(self.rank, num, self.num)

    def owns(self, batch: int) -> bool:
        """Whether the batch of that number is this process's."""
        return batch % self.num == self.rank

    def sum(self, x: Tensor) -> Tensor:
        """x added over the processes, on every one of them; where there are several, on the CPU."""
        return x

    def of_main(self, value: T) -> T:
        """The main process's value, on every one of them."""
        return value

    def all(self, flag: bool) -> bool:
        """Whether it is set on every process."""
        return flag


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
    from genzoo.launch.several import joined

    return joined()


def leave_at_exit() -> None:
    """After collectives that all have ended well: end gloo's threads before the interpreter does.

    One that still frees a tensor then aborts the process: it asks for the interpreter's lock, and Python ends threads
    that do so late in a way that C++ takes for an error ("terminate called without an active exception").
    """
    stay_at_exit()
    atexit.register(_leave)


def stay_at_exit() -> None:
    """After a failure: to leave the others would be to wait for them."""
    atexit.unregister(_leave)


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # what is left of a training may hold the group, whose threads end with the last reference
        torch.distributed.destroy_process_group()
