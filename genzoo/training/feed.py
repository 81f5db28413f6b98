"""Batches as a function of (seed, step): nothing to save, and the same data for any number of processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genzoo.errors import UserError

if TYPE_CHECKING:
    from genzoo.parts import Streamed


class Feed:
    """Cuts the sample stream, the concatenation of one permutation an epoch, into batches.

    Step i sees samples [i * batch_size, (i + 1) * batch_size) of the stream, so every row comes once an epoch, none
    is dropped, and a batch may span epochs. Process `rank` of `world` gets its share of each of `parts` parts.

    rows: an array (images, uint8 n h w c; latents; codes), in memory or memory-mapped; it is copied to a GPU that has
    room for it. Or images that are streamed: they order an epoch by themselves and are read ahead.
    """

    def __init__(
        self,
        rows: np.ndarray | Streamed,
        batch_size: int,
        seed: int,
        *,
        device: torch.device,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
    ):
        if len(rows) == 0:
            raise UserError("there is nothing to train on: the array has no rows")
        if batch_size % (parts * world):
            shares = f"{world} processes x {parts} accumulated parts"
            nearest = max(1, round(batch_size / (parts * world))) * parts * world
            raise UserError(
                f"train.batch_size {batch_size} cannot be shared equally by {shares}; use {nearest}, for example"
            )
        self.rows, self.batch_size, self.seed, self.device = rows, batch_size, seed, device
        self.parts, self.rank, self.world = parts, rank, world
        self._epochs: dict[int, np.ndarray] = {}
        self._resident: Tensor | None = None
        self._dtype = torch.from_numpy(np.empty(0, rows.dtype)).dtype
        self._streams = not isinstance(rows, np.ndarray)
        if device.type == "cuda" and not self._streams and rows.nbytes < torch.cuda.mem_get_info(device)[0] // 4:
            self._resident = torch.empty(rows.shape, dtype=self._dtype, device=device)
            for start in range(0, len(rows), 4096):  # never the whole set in the host's memory
                chunk = torch.from_numpy(np.array(rows[start : start + 4096]))
                self._resident[start : start + 4096] = chunk.to(device)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs.pop(epoch - 2, None)
            rng = np.random.default_rng([self.seed, epoch])
            if self._streams:
                order = self.rows.order(rng)
            else:
                order = np.arange(len(self.rows), dtype=np.int32 if len(self.rows) < 2**31 else np.int64)
                rng.shuffle(order)
            self._epochs[epoch] = order
        return self._epochs[epoch]

    def indices(self, step: int) -> np.ndarray:
        """Rows of step `step` for this process: parts x (batch_size / parts / world)."""
        n, start = len(self.rows), step * self.batch_size
        stop = start + self.batch_size
        batch = [
            self._permutation(epoch)[max(start - epoch * n, 0) : stop - epoch * n]
            for epoch in range(start // n, (stop - 1) // n + 1)
        ]
        return np.concatenate(batch).reshape(self.parts, self.world, -1)[:, self.rank]

    def batches(self, step: int) -> Iterator[Tensor]:
        """Part after part from `step` on, for ever: rows on the device, of the array's type (images: uint8 b h w c)."""
        parts = self._parts(step)
        if self._resident is not None:
            for indices in parts:
                yield self._resident.index_select(0, torch.from_numpy(indices).to(self.device, non_blocking=True))
        elif self.device.type == "cpu" and not self._streams:
            yield from map(self._gather, parts)
        else:
            # One thread reads ahead: page faults and the copy into pinned memory hide behind the device's work.
            with closing(self._read(parts)) as read, ThreadPoolExecutor(1, "genzoo-feed") as thread:
                ahead = deque(thread.submit(next, read) for _ in range(2))
                while True:
                    batch = ahead.popleft().result()
                    ahead.append(thread.submit(next, read))
                    # Only pinned memory is kept until its copy has ended; on MPS a batch was garbage without waiting.
                    yield batch.to(self.device, non_blocking=batch.is_pinned())

    def _read(self, parts: Iterator[np.ndarray]) -> Iterator[Tensor]:
        if not self._streams:
            yield from map(self._gather, parts)
        else:
            steps = max(1, self.rows.buffer // self.batch_size)
            with closing(self.rows.batches(parts, steps * self.parts)) as batches:
                for batch in map(torch.from_numpy, batches):
                    yield batch.pin_memory() if self.device.type == "cuda" else batch

    def _parts(self, step: int) -> Iterator[np.ndarray]:
        for i in count(step):
            yield from self.indices(i)

    def _gather(self, indices: np.ndarray) -> Tensor:
        batch = torch.empty(
            (len(indices), *self.rows.shape[1:]), dtype=self._dtype, pin_memory=self.device.type == "cuda"
        )
        # mode="clip" lets numpy write into `out` without a copy of its own; the indices are in range by construction.
        np.take(self.rows, indices, axis=0, out=batch.numpy(), mode="clip")
        return batch
