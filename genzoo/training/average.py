"""Exponential moving average of a model's weights."""

import math

import torch
from torch import nn

from genzoo.training.shares import local


class Average:
    """`average <- d * average + (1 - d) * model`, for parameters and floating-point buffers; counters are copied.

    d = min(decay, (1 + step) / (10 + step)), so that a short run is no average with its random start. One that
    reaches back 100 steps and more reads the weights once in 10, with the d of all ten, which costs a tenth.
    average: a copy of `model`, which becomes its average; of sharded ones each process averages its shares.
    """

    def __init__(self, average: nn.Module, model: nn.Module, decay: float):
        self.decay, self.model = decay, average.eval().requires_grad_(False)
        tensors = (map(local, module.state_dict().values()) for module in (average, model))
        pairs = {pair[0].data_ptr(): pair for pair in zip(*tensors, strict=True)}.values()  # tied weights once
        # The tensors are listed once: walking two state dicts at every step costs more than the arithmetic.
        self._averages, self._weights = map(
            list, zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        )
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step` (from 0)."""
        steps = 10 if step >= 100 and self.decay >= 0.99 else 1
        if (step + 1) % steps:
            return
        decay = math.prod(min(self.decay, (1 + i) / (10 + i)) for i in range(step + 1 - steps, step + 1))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)  # as swa_utils does, less its checks each time
        for average, current in self._counters:
            average.copy_(current)
