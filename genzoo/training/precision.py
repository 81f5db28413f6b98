"""Which number format to train in."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genzoo.errors import UserError

BUDGET = 5.0  # seconds of warm-up after which nothing more is measured


def resolve(requested: str, module: nn.Module, batches: Iterator[Tensor], step: Tensor, num_processes: int = 1) -> str:
    """fp32, bf16 or fp16. `auto` on a CPU times both on a copy of `module`, whose state is left alone.

    Several CPU processes train in fp32 unless told otherwise: they could measure different winners.
    """
    device = step.device.type
    if requested == "fp16" and device != "cuda":
        raise UserError(f"train.precision: fp16 needs a CUDA GPU and this is a {device}; use bf16, fp32 or auto")
    if requested != "auto":
        return requested
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device != "cpu" or num_processes > 1:
        return "fp32"
    seconds = measure(module, next(batches), step)
    # bf16 rounds, so it has to earn its place.
    return "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32"


def measure(module: nn.Module, batch: Tensor, step: Tensor) -> dict[str, float]:
    """Seconds of a forward and backward pass: the best of two after a warm-up, or the warm-up's own if it is long."""
    module = copy.deepcopy(module)
    seconds = {"fp32": [], "bf16": []}
    for _ in range(3):
        for precision, times in seconds.items():
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = module(batch, step)["loss"]
            loss.backward()
            times.append(time.perf_counter() - start)
            module.zero_grad()
        if sum(map(sum, seconds.values())) > BUDGET:
            break
    return {precision: min(times[1:] or times) for precision, times in seconds.items()}
