"""The processes that share one evaluation."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from genzoo.evaluation.frechet import Statistics

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among them; by default it is alone. `sum` and what follows must be called by all.

    first(name): a context whose body the main one goes through first, however long that takes; collectives, in which
    the others would wait for it, have a time limit (NCCL's: 10 minutes). A name serves once.
    """

    rank: int = 0
    num: int = 1
    first: Callable[[str], AbstractContextManager] = nullcontext

    def share(self, num: int) -> np.ndarray:
        """The indices, of num images, that are this process's."""
        return np.arange(self.rank, num, self.num)

    def owns(self, batch: int) -> bool:
        """Whether the batch of that number is this process's."""
        return batch % self.num == self.rank

    def sum(self, x: Tensor) -> Tensor:
        """x added over the processes, on every one of them."""
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

    def total(self, own: Statistics) -> Statistics:
        """The statistics of what all the processes have seen: sums about the common mean."""
        if self.num == 1:
            return own
        n = self.sum(torch.tensor(own.n))
        mean = self.sum(own.n * own.mean) / n
        shift = own.mean - mean
        scatter = own.cov * max(own.n - 1, 0) + own.n * torch.outer(shift, shift)
        return Statistics.known(int(n), mean, self.sum(scatter) / max(int(n) - 1, 1))


ALONE = Processes()
