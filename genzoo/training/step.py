"""One step's computation, and its randomness."""

import random

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.training.recompute import blocks, recomputed


class Step(nn.Module):
    """Model and objective as one module, so that wrapping, gradient exchange and compilation see one graph."""

    def __init__(
        self, model: nn.Module, objective: nn.Module, channels_last: bool, activation_checkpointing: bool = False
    ):
        super().__init__()
        self.model, self.objective, self.channels_last = model, objective, channels_last
        self.recomputed = blocks(model) if activation_checkpointing else []

    def forward(self, images: Tensor, step: Tensor) -> dict[str, Tensor]:
        """images: uint8 b h w c; step: 0-d, optimizer steps done. Returns the objective's terms."""
        x = images.permute(0, 3, 1, 2)  # b c h w, which leaves it channels_last in memory
        if not self.channels_last:
            x = x.contiguous()
        with recomputed(self.recomputed):
            return self.objective(self.model, x.float().div_(255), step)


def synchronize_batch_norm(step: Step, device: torch.device, num_processes: int) -> Step:
    """The same step, with batch statistics taken over all processes. UserError on devices where PyTorch has no such."""
    if num_processes == 1:
        return step
    if device.type == "cpu":
        raise UserError("train.sync_batch_norm: PyTorch synchronises BatchNorm on GPUs only; leave it out on CPUs")
    return nn.SyncBatchNorm.convert_sync_batchnorm(step)


def seed_step(seed: int, step: int, process: int, device: torch.device) -> None:
    """Seed every library's global generator from (seed, step, process)."""
    state = int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    # Not torch.manual_seed, which takes half a millisecond where CUDA is never started.
    torch.default_generator.manual_seed(state)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(state)
