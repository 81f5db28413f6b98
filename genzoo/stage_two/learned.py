"""A sampler with a loss, trained by the one trainer on what `genzoo.evaluation.encoded` gives."""

import logging
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.encoded import drawn, moments
from genzoo.files import delete
from genzoo.parts import Learned
from genzoo.preparation import settings_of
from genzoo.training.trainer import train

log = logging.getLogger("genzoo")

WARM, TIMED = 5, 20  # steps until the machine is warm, and steps by which the rest is judged


class LearnedStep(nn.Module):
    """A learned sampler as the trainer takes it (genzoo/training/step.py), on what `encoded` gives."""

    def __init__(self, sampler: Learned, name: str, steps: int):
        super().__init__()
        self.sampler, self.name, self.steps = sampler, name, steps
        self._calls = 0

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"model": self.sampler}

    def refuse(self, rows: np.ndarray) -> None:
        if rows.ndim < 2 or not len(rows):
            raise UserError(f"a sampler learns from latents or codes; got {rows.dtype} {rows.shape}")

    def forward(self, rows: Tensor, clock: Tensor) -> dict[str, Tensor]:
        self._tell_time(rows.device)
        if self.sampler.learns == "codes":
            return self.sampler.loss(_unsigned(rows), clock)
        return self.sampler.loss(drawn(rows), clock)

    def _tell_time(self, device: torch.device) -> None:
        """After a few calls, how long all will take."""
        self._calls += 1
        if self._calls in (WARM, WARM + TIMED):
            if device.type != "cpu":
                torch.get_device_module(device).synchronize(device)
            now = time.perf_counter()
            if self._calls > WARM:
                log.info("%s: about %.0f s in all", self.name, (now - self._began) / TIMED * self.steps)
            self._began = now


def learn(
    sampler: Learned, rows: np.ndarray, seed: int, folder: Path | None, name: str, progress: bool, again: str | None
) -> None:
    """Train it; see `genzoo.stage_two.fit`."""
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return learn(sampler, rows, seed, Path(temporary), name, progress, again)
    config = settings_of(sampler)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sampler.begin(*(moments(rows) if sampler.learns == "latents" else [torch.from_numpy(rows)]))
        sampler.num_fit.zero_()  # until the training ends well
        num = sum(parameter.numel() for parameter in sampler.parameters() if parameter.requires_grad)
        log.info("%s: %s parameters, %s steps of %s of %s latents", name, f"{num:,}", f"{config.steps:,}",
                 config.batch_size, f"{len(rows):,}")  # fmt: skip
        step = LearnedStep(sampler, name, config.steps * config.grad_accumulation)
        try:
            train(step, _signed(rows), config, folder=folder, seed=seed, resume=True, progress=progress, again=again)
        except UserError as error:
            own = re.sub(r"train\.((optimizer|schedule)\.)?", "", str(error))  # its options have no such prefix
            raise UserError(f"{name}: {own}") from error
        finally:
            sampler.cpu().eval()
    sampler.num_fit.fill_(len(rows))
    delete(folder / "checkpoints")


def _signed(rows: np.ndarray) -> np.ndarray:
    """Codes in types that tensors of every device can be picked from: those of the same bytes."""
    return rows.view({np.uint16: np.int16, np.uint32: np.int32}.get(rows.dtype.type, rows.dtype))


def _unsigned(codes: Tensor) -> Tensor:
    """What `_signed` was given, int64."""
    return codes.long() & (2 ** (8 * codes.element_size()) - 1)
