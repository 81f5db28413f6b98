"""Several processes that do one thing together: the main one goes first, and they end as one."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

# Not later: once the group is made, its default arguments would keep that alive for ever.
import torch.distributed.nn.functional
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch import Tensor
from torch.distributed import PrefixStore, Store
from torch.distributed.distributed_c10d import _get_default_store

from genzoo.errors import Interrupted, UserError
from genzoo.launch import Launch, T, leave_at_exit, stay_at_exit

_launches = count()


class ProcessLost(RuntimeError):
    """Another process of the run has ended, so that this one cannot go on."""


@dataclass(frozen=True)
class Several(Launch):
    """This process among others (genzoo.launch.Launch says what it does).

    They talk through the launcher's key-value store, which unlike a collective has no time limit (preparing data and
    scoring may take hours) and which a process that failed can still reach.
    """

    store: Store = field(kw_only=True)

    @contextmanager
    def first(self, name: str) -> Iterator[None]:
        while not self.is_main and not self.store.check([name]):
            if self.store.check(["code"]):  # the process that failed has said so
                raise SystemExit(int(self.store.get("code")))
            time.sleep(0.1)
        yield
        if self.is_main:
            self.store.set(name, "done")

    @contextmanager
    def ends_as_one(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            stay_at_exit()
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

    def sum(self, x: Tensor) -> Tensor:
        return reduce(x.to(PartialState().device), "sum").cpu()

    def of_main(self, value: T) -> T:
        return broadcast_object_list([value])[0]

    def all(self, flag: bool) -> bool:
        return int(self.sum(torch.tensor(int(flag)))) == self.num


def joined() -> Several:
    """This process, in the group that the launcher's variables describe. UserError where GPUs are too few."""
    num, num_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if num > num_gpus > 0:
        raise UserError(f"{num} processes were launched on a machine of {num_gpus} GPU(s): start one for each GPU")
    state = PartialState(cpu=not torch.accelerator.is_available())
    store = PrefixStore(f"genzoo/{next(_launches)}", _get_default_store())
    if not state.is_main_process:
        logging.getLogger("genzoo").setLevel(logging.ERROR)
    return Several(state.process_index, state.num_processes, state.device, store=store)


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
