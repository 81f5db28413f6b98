"""The memory of the machine, counted before parts take it: weights, single tensors, and the work of building them."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.modules import module as registration
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from genzoo.errors import TooLarge, UserError
from genzoo.files import size_of

try:
    import resource
except ModuleNotFoundError:  # Windows sets no limits
    resource = None

# Of PyTorch, to build a model; a fifth of them to run it once. The deepest networks of timm take a quarter of either.
MAX_OPERATIONS = 100_000
LARGE = 2**26  # bytes of a tensor that the memory which is free is asked for
# What makes a tensor of a size that it is told.
FACTORIES = {
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.randperm),
    *(torch.arange, torch.linspace, torch.logspace, torch.eye),
}
_open = threading.local()  # the budget of this thread, if one is open


@cache
def memory() -> int:
    """Bytes that this process may have: the machine's, or less where a container, a batch system or a shell says so."""
    found = [psutil.virtual_memory().total]
    for file in _groups():
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # there is none, or "max"
            continue
    if resource:
        limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
        found += [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min(found)


def _groups() -> list[Path]:
    """Files with the limits of this process's control group and of those that it lies in."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = next((root / line.removeprefix("0::/") for line in lines if line.startswith("0::/")), root)
    groups = [group for group in (own, *own.parents) if group.is_relative_to(root)]
    return [*(group / "memory.max" for group in groups), root / "memory" / "memory.limit_in_bytes"]


def refuse(num_bytes: int, what: str, remedy: str) -> None:
    """UserError where `what` takes more memory than there is."""
    if num_bytes > memory():
        raise UserError(
            f"{what} would take {size_of(num_bytes)} of memory, and there are {size_of(memory())}; {remedy}"
        )


@contextmanager
def within_memory(used: int = 0) -> Iterator["Budget"]:
    """While parts are built and run in here, TooLarge where they ask for more than the memory, before it is taken.

    used: bytes of what was built before and stays. In another one: the same, which goes on counting.
    """
    if budget := getattr(_open, "budget", None):
        yield budget
        return
    budget = Budget(used)
    with ExitStack() as stack:
        for kind, registered in (("parameter", budget.hold), ("buffer", budget.hold), ("module", budget.work)):
            register = getattr(registration, f"register_module_{kind}_registration_hook")
            stack.callback(register(lambda module, name, made, count=registered: count(made)).remove)
        _open.budget = budget
        stack.callback(delattr, _open, "budget")
        stack.enter_context(budget)
        yield budget


class Budget(TorchFunctionMode):
    """What has been built: num_bytes of weights and buffers, each once and as long as it lives."""

    def __init__(self, used: int):
        super().__init__()
        self.thread, self.used = threading.get_ident(), used
        self.num_bytes, self.operations = used, 0
        self.largest = 0  # bytes of a tensor that was made on the meta device, in a pass
        self.held = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        self.work()
        if func in FACTORIES and "out" not in kwargs:
            options = {key: value for key, value in kwargs.items() if key not in ("generator", "pin_memory")}
            planned = func(*args, **{**options, "device": "meta"})
            self._fits(planned, memory(), "there are")
            if planned.nbytes > LARGE and kwargs.get("device") is None and torch.get_default_device().type == "cpu":
                self._fits(planned, psutil.virtual_memory().available, "others have left")
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and made.is_meta and not is_lazy(made):
            self.largest = max(self.largest, self._fits(made, memory(), "there are"))
        return made

    def work(self, made: object = None) -> None:
        if threading.get_ident() != self.thread:
            return
        self.operations += 1
        if self.operations > MAX_OPERATIONS:
            raise TooLarge(f"it takes more than {MAX_OPERATIONS:,} operations to build it and to run it once")

    def begin_pass(self) -> None:
        """Building is done; the operations of a pass take longer."""
        self.operations, self.largest = MAX_OPERATIONS * 4 // 5, 0

    def hold(self, tensor: Tensor | None) -> None:
        """A weight or a buffer has got a module."""
        if tensor is None or is_lazy(tensor) or tensor in self.held or threading.get_ident() != self.thread:
            return
        self.held[tensor] = tensor.nbytes
        self.num_bytes += tensor.nbytes
        if self.num_bytes > memory():
            self.num_bytes = self.used + sum(self.held.values())  # without those that have been replaced since
        if self.num_bytes > memory():
            raise TooLarge(f"weights and buffers are more than the {size_of(memory())} of memory that there are")

    def _fits(self, tensor: Tensor, limit: int, there_are: str) -> int:
        """Its bytes."""
        num = tensor.untyped_storage().nbytes() if tensor.layout is torch.strided else 0
        if num > limit:
            shape = " x ".join(map(str, tensor.shape))
            raise TooLarge(f"a tensor of {shape} is {size_of(num)}, and {there_are} {size_of(limit)} of memory")
        return num
