"""The second stage: samplers learn the latents of a trained model. What has a loss is trained by the one trainer.

`<run>/samplers/<name>.safetensors` is what a sampler learned (genzoo/fitted.py). One that is trained has a folder
`<run>/samplers/<name>/` as well, with its train.jsonl, and with checkpoints until it is done.
"""

import logging
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.encoded import drawn, encoded, moments
from genzoo.evaluation.generate import bind, fit_split, pick
from genzoo.evaluation.work import Work
from genzoo.files import delete
from genzoo.fitted import Kept
from genzoo.parts import Learned, Sampler
from genzoo.preparation import settings_of
from genzoo.progress import shown
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


def fit(
    sampler: Sampler,
    rows: np.ndarray,
    seed: int,
    *,
    folder: Path | None = None,
    name: str = "sampler",
    progress: bool = False,
    again: str | None = None,
) -> None:
    """Have a sampler learn from what `encoded` gave for it.

    folder: of a learned one's log and checkpoints, from the newest of which it goes on; None: they are not kept.
    again: the command that goes on after an interruption. UserError where it cannot be fitted.
    """
    if not hasattr(sampler, "loss"):
        sampler.fit(*moments(rows), seed)
        return
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return fit(sampler, rows, seed, folder=Path(temporary), name=name, progress=progress, again=again)
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


def fit_samplers(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    splits: Mapping[str, np.ndarray],
    *,
    seed: int,
    work: Work,
    kept: Kept | None = None,
) -> dict[str, str]:
    """Fit every sampler that has something to learn and is not fitted, on its `fit_split`; each split is encoded once.

    splits: uint8 n h w c. kept: where what was learned before lies, and is put; None: nowhere. Of several processes,
    all must call this: learned samplers are trained by all, others are fitted by the main one. Returns name -> reason
    for those that cannot be fitted, which `evaluate` takes as `skipped`.
    """
    seen: dict[tuple[str, str], np.ndarray] = {}
    failed = {}
    for name, sampler in samplers.items():
        if not sampler.needs_fit or (kept and work.processes.all(kept.load(name, sampler))):
            continue
        split, learns = fit_split(sampler), getattr(sampler, "learns", "latents")
        if (split, learns) not in seen:
            images = pick(splits, split)
            where = (kept.latents / f"{split}-{learns}.npy", kept.made_of(split)) if kept else ()
            with shown() as report:
                seen[split, learns] = encoded(model, images, learns, replace(work, progress=report), *where)
        rows, alone = seen[split, learns], not hasattr(sampler, "loss")
        place = f"samplers/{name}"
        log.info("fitting sampler %s on %d posteriors (%s)", name, len(rows), split)
        try:
            if alone:
                with work.processes.first(f"fitted {name}"):  # the others find what the main process has learned
                    if not (kept and not work.processes.is_main and kept.load(name, sampler)):
                        bind(sampler, model)
                        fit(sampler, rows, seed)
                        if kept and work.processes.is_main:
                            kept.save(name, sampler)
                continue
            folder = kept and kept.begun(name, sampler, work.processes)
            fit(sampler, rows, seed, folder=folder, name=place, progress=kept is not None, again=kept and kept.again)
            if kept and work.processes.is_main:
                kept.save(name, sampler)
        except UserError as error:
            failed[name] = str(error)
    return failed


def _signed(rows: np.ndarray) -> np.ndarray:
    """Codes in types that tensors of every device can be picked from: those of the same bytes."""
    return rows.view({np.uint16: np.int16, np.uint32: np.int32}.get(rows.dtype.type, rows.dtype))


def _unsigned(codes: Tensor) -> Tensor:
    """What `_signed` was given, int64."""
    return codes.long() & (2 ** (8 * codes.element_size()) - 1)
