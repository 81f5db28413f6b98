"""Which number format to train in."""

import copy
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.errors import UserError

BUDGET = 5.0  # seconds of measuring after which no further round begins


def resolve(
    requested: str, module: nn.Module, batches: Iterator[Tensor], step: Tensor, num_processes: int
) -> dict[str, Any]:
    """{"precision": fp32, bf16 or fp16}, with the measured seconds where `auto` had to measure, on one CPU process.

    Several CPU processes train in fp32 unless told otherwise: each could measure another winner.
    """
    device = step.device.type
    if requested == "fp16" and device != "cuda":
        raise UserError(f"train.precision: fp16 needs a CUDA GPU and this is a {device}; use bf16, fp32 or auto")
    if requested != "auto":
        return {"precision": requested}
    if device == "cuda":
        return {"precision": "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"}
    # x86 below AVX512 has no bf16 arithmetic: measuring its emulation could take minutes.
    if device != "cpu" or num_processes > 1 or torch.backends.cpu.get_cpu_capability() in ("AVX2", "NO AVX"):
        return {"precision": "fp32"}
    seconds = measure(module, next(batches), step)
    # bf16 rounds, so it has to earn its place.
    return {"precision": "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32", "seconds": seconds}


def measure(module: nn.Module, batch: Tensor, step: Tensor) -> dict[str, float]:
    """Seconds of a forward and backward pass in fp32 and bf16, on a copy of `module`: its state is left alone.

    The best of two rounds after a warm-up; the warm-up's own where that took long already.
    """
    module = copy.deepcopy(module)
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
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
