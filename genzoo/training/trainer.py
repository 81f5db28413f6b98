"""The one trainer. It owns the clock and knows no part by name: the objective owns the loss.

The randomness of step i is seeded by (seed, i, process), and its images are a function of (seed, i): a checkpoint
needs no random state, and neither panels nor measurements between steps can change what training does.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError, nearest
from genzoo.training import checkpoint
from genzoo.training.config import TrainConfig
from genzoo.training.feed import Feed
from genzoo.training.log import Log, Rows, averages, last_epoch, truncate
from genzoo.training.optimizer import check_optimizer, make_optimizer, make_schedule
from genzoo.training.precision import resolve
from genzoo.training.signals import Interrupted, Signals


class Step(nn.Module):
    """Model and objective as one module, so that wrapping, gradient exchange and compilation see one graph."""

    def __init__(self, model: nn.Module, objective: nn.Module, channels_last: bool):
        super().__init__()
        self.model, self.objective, self.channels_last = model, objective, channels_last

    def forward(self, images: Tensor, step: Tensor) -> dict[str, Tensor]:
        """images: uint8 b h w c; step: 0-d, optimizer steps done. Returns the objective's terms."""
        x = images.permute(0, 3, 1, 2)  # b c h w, and channels_last in memory as it is
        if not self.channels_last:
            x = x.contiguous()
        return self.objective(self.model, x.float() / 255, step)


def check(config: TrainConfig) -> None:
    """Refuse, before anything is spent, what the schema cannot know: optimizers and trackers that are not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    check_optimizer(config.optimizer)
    available = {str(name) for name in get_available_trackers()}
    for name in config.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise UserError(
                f"train.trackers: no tracker '{name}'{nearest(name, LOGGER_TYPE_TO_CLASS)} (known: {known})"
            )
        if name not in available:
            raise UserError(f"train.trackers: {name} is not installed; pip install {name}, or remove it")


def train(
    model: nn.Module,
    objective: nn.Module,
    images: np.ndarray,
    config: TrainConfig,
    *,
    folder: Path,
    seed: int,
    resume: bool = False,
    panel: Callable[[nn.Module, int], None] | None = None,
    progress: bool = True,
    metadata: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Train `model` on `images` (uint8 n h w c) until `config.steps`; checkpoints and train.jsonl go into `folder`.

    objective: see genzoo/parts.py; its parameters are trained too. resume: go on from the newest whole checkpoint of
    `folder`, from the start if there is none. panel(model, step): called with the model in eval mode (its average, with
    EMA) every `panel_every` steps, on the main process. metadata: strings for the header of every saved file.

    Afterwards `model` holds the final weights (the average, with EMA), on its device, in eval mode. Returns the `train`
    section of metrics.json. Raises Interrupted after SIGINT or SIGTERM, once a checkpoint is saved; UserError for
    settings that cannot work, a loss that is not finite, too little memory, or a full disk.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    check(config)
    try:
        trainer = Trainer(model, objective, images, config, Path(folder), seed, resume, metadata or {})
        trainer.run(panel, progress)
        return trainer.summary()
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
            raise
        raise UserError(
            f"out of memory with train.batch_size {config.batch_size} in {config.grad_accumulation} part(s): raise "
            "train.grad_accumulation (the same training, less memory), or lower train.batch_size"
        ) from error


class Trainer:
    """Everything that a step needs, the loop, and its checkpoints."""

    def __init__(
        self,
        model: nn.Module,
        objective: nn.Module,
        images: np.ndarray,
        config: TrainConfig,
        folder: Path,
        seed: int,
        resume: bool,
        metadata: dict[str, str],
    ):
        from accelerate import Accelerator, PartialState
        from accelerate.state import AcceleratorState

        self.config, self.folder, self.seed, self.metadata = config, folder, seed, metadata
        self.done = self._saved = 0  # optimizer steps, and those of the newest checkpoint
        self._seconds = 0.0  # of training, in the parts of the run before this one
        start = self._open(resume)
        processes = PartialState()
        self.device = processes.device
        self.feed = Feed(
            images, config.batch_size, seed, device=self.device, parts=config.grad_accumulation,
            rank=processes.process_index, world=processes.num_processes,
        )  # fmt: skip

        self.model = model
        self.step = Step(model, objective, config.channels_last).to(self.device).train()
        if config.channels_last:
            self.step.to(memory_format=torch.channels_last)
        self.clock = torch.zeros((), dtype=torch.int64, device=self.device)  # `done`, for the objective
        self.precision = self._precision(resume, processes.num_processes)
        AcceleratorState._reset_state()  # of another training in this process, perhaps in another precision
        self.accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(self.precision, self.precision),
            gradient_accumulation_steps=config.grad_accumulation,
            log_with=list(config.trackers) or None,
            project_dir=folder / "trackers",
        )
        optimizer = make_optimizer(self.step, config.optimizer)
        self.schedule = make_schedule(optimizer, config.schedule, config.optimizer.lr, config.steps)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.step, optimizer)
        if config.compile != "off":
            self.wrapped.compile(mode=config.compile)
        self.parameters = [parameter for parameter in self.step.parameters() if parameter.requires_grad]
        self.ema = None
        if config.ema is not None:
            from timm.utils import ModelEmaV3

            # The decay grows to its final value, so that a short run is not an average with its random start.
            self.ema = ModelEmaV3(model, decay=config.ema, use_warmup=True, warmup_power=3 / 4)
        self.rows = Rows(self.accelerator)
        if start:
            self._restore(start)
        if self.accelerator.is_main_process:
            truncate(folder / "train.jsonl", self.done)

    def _open(self, resume: bool) -> Path | None:
        """The checkpoint to start from, if any."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.clean(self.folder)
        if resume:
            return checkpoint.newest(self.folder)
        if (self.folder / "train.jsonl").exists():
            raise UserError(f"{self.folder} holds a run already; go on with --resume, or choose another folder")
        return None

    def _precision(self, resume: bool, num_processes: int) -> str:
        """The precision to train in. A measured choice is written down at once: a resumed run must not choose anew."""
        choice = self.folder / "precision.json"
        question = {"requested": self.config.precision, "device": self.device.type}
        if resume and choice.exists():
            answer = json.loads(choice.read_text())
            if answer.items() >= question.items():
                return answer["precision"]
        precision = resolve(self.config.precision, self.step, self.feed.batches(0), self.clock, num_processes)
        choice.write_text(json.dumps({**question, "precision": precision}))
        return precision

    def run(self, panel: Callable[[nn.Module, int], None] | None, progress: bool) -> None:
        """The loop."""
        config, accelerator = self.config, self.accelerator
        self._began = self._interval_began = time.perf_counter()
        over = False
        with (
            Signals() as signals,
            Log(self.folder / "train.jsonl", accelerator, self.done, config.steps, progress) as self.log,
            closing(self.feed.batches(self.done)) as batches,
        ):
            accelerator.init_trackers("genzoo", config=self.metadata)
            while self.done < config.steps and not over:
                seed_step(self.seed, self.done, accelerator.process_index)
                self.schedule.step_update(self.done)
                if config.on_nonfinite == "skip":
                    buffers = [buffer.clone() for buffer in self.step.buffers()]
                terms = []
                for part in range(1, config.grad_accumulation + 1):
                    last = part == config.grad_accumulation
                    with nullcontext() if last else accelerator.no_sync(self.wrapped):
                        terms.append(self.wrapped(next(batches), self.clock))
                        accelerator.backward(terms[-1]["loss"])
                row = self.rows.add(terms, self._clip())
                if config.on_nonfinite == "skip" and not self._finite(row):
                    self._undo(buffers)
                else:
                    self.optimizer.step()
                    if self.ema:
                        self.ema.update(self.model, self.done)
                self.optimizer.zero_grad()
                self.done += 1
                self.clock += 1

                self.log.advance(self.done)
                over = self._agreed(config.max_time is not None and self._elapsed() > config.max_time)
                stopped = self._agreed(signals.received is not None)
                if self.done % config.log_every == 0:
                    self._write_line()
                if panel and _due(self.done, config.panel_every):
                    self._show(panel)
                if stopped or _due(self.done, config.checkpoint_every):
                    self._save()
                if stopped:
                    raise Interrupted(
                        f"stopped by {signals.received} after step {self.done}, which is saved; go on with: "
                        f"genzoo run {self.folder / 'recipe.yaml'} --out {self.folder} --resume"
                    )
            if self.rows:
                self._write_line()
            if panel and not _due(self.done, config.panel_every):
                self._show(panel)
            if self._saved != self.done:
                self._save()
            self._seconds = self._elapsed()
        accelerator.end_training()

    def summary(self) -> dict[str, Any]:
        """Hand the final weights to the model; what metrics.json says about training."""
        if self.ema:
            self.model.load_state_dict(self.ema.module.state_dict())
        self.model.eval()
        images = self.done * self.config.batch_size
        last = last_epoch(self.folder / "train.jsonl", len(self.feed.images) / self.config.batch_size)
        return {
            "num_parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "steps": self.done,
            "images_per_s": images / self._seconds,
            "seconds": self._seconds,
            "reconstruction_mse": last.get("mse"),
            "kl": last.get("kl"),
            "precision": self.precision,
            "device": str(self.device) if self.device.type == "cpu" else torch.cuda.get_device_name(self.device),
        }

    def _clip(self) -> Tensor:
        """Clip the gradients where that is asked for; their norm before it."""
        if self.config.clip_grad_norm is not None:
            return self.accelerator.clip_grad_norm_(self.parameters, self.config.clip_grad_norm)
        self.accelerator.unscale_gradients()  # of fp16's loss scale
        return nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    def _finite(self, row: Tensor) -> bool:
        return bool(torch.isfinite(self.accelerator.reduce(row)).all())

    def _undo(self, buffers: list[Tensor]) -> None:
        """Forget a skipped step: what its forward pass did to BatchNorm's averages and the objective's gamma."""
        for buffer, before in zip(self.step.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()

    def _agreed(self, flag: bool) -> bool:
        """Whether any process raises the flag; with several, they ask each other at the end of an interval."""
        if self.accelerator.num_processes == 1:
            return flag
        if self.done % self.config.log_every:
            return False
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device)))

    def _elapsed(self) -> float:
        return self._seconds + time.perf_counter() - self._began

    def _read_rows(self) -> list[list[float]]:
        """The scalars of the steps since the last line; UserError names the first step that is not finite."""
        rows = self.rows.read()
        judged = slice(None) if self.accelerator.scaler is None else slice(-1)  # fp16 scales overflowing gradients down
        bad = [i for i, row in enumerate(rows) if not all(map(math.isfinite, row[judged]))]
        if bad and (self.config.on_nonfinite == "stop" or len(bad) == len(rows) >= self.config.log_every):
            values = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.rows.names, rows[bad[0]], strict=True))
            good = f"step {self._saved} is the last good checkpoint" if self._saved else "there is no checkpoint yet"
            raise UserError(
                f"step {self.done - len(rows) + bad[0] + 1} is not finite: {values}; {good}. Lower train.optimizer.lr, "
                "set train.clip_grad_norm or train.precision=fp32, or skip such steps with train.on_nonfinite=skip"
            )
        return rows

    def _write_line(self) -> None:
        rows, now = self._read_rows(), time.perf_counter()
        images = self.done * self.config.batch_size
        self.log.write(
            {
                "step": self.done,
                "images": images,
                "epoch": images / len(self.feed.images),
                **averages(self.rows.names, rows),
                "lr": self.optimizer.param_groups[0]["lr"],
                "images_per_s": len(rows) * self.config.batch_size / (now - self._interval_began),
                "seconds": self._elapsed(),
            }
        )
        self.rows.clear()
        self._interval_began = now

    def _show(self, panel: Callable[[nn.Module, int], None]) -> None:
        if self.accelerator.is_main_process:
            module = self.ema.module if self.ema else self.model.eval()
            with torch.no_grad():
                panel(module, self.done)
            self.step.train()

    def _save(self) -> None:
        rows = self._read_rows()  # before anything is written: a step that is not finite is never saved
        groups: checkpoint.Groups = {
            "model": self.model.state_dict(),
            "objective": self.step.objective.state_dict(),
            "optimizer": {},
        }
        if self.ema:
            groups["ema"] = self.ema.module.state_dict()
        state = {
            **self._identity(),
            "step": self.done,
            "seconds": self._elapsed(),
            "rows": [self.rows.names, rows],
            "optimizer": checkpoint.pack(self.optimizer.state_dict(), "state", groups["optimizer"]),
            "scaler": self.accelerator.scaler and self.accelerator.scaler.state_dict(),
        }
        if self.accelerator.is_main_process:
            self.log.sync()
            checkpoint.save(
                self.folder, self.done, groups, state, keep=self.config.keep, metadata=self.metadata
            )  # fmt: skip
        self._saved = self.done
        self.accelerator.wait_for_everyone()

    def _identity(self) -> dict[str, Any]:
        """What must not change between the parts of a run: together with the step, it fixes the data."""
        return {"seed": self.seed, "batch_size": self.config.batch_size, "num_images": len(self.feed.images)}

    def _restore(self, path: Path) -> None:
        state = checkpoint.read_state(path)
        for name, value in self._identity().items():
            if state[name] != value:
                raise UserError(f"{path} was made with {name} {state[name]}, not {value}; resume with the same")
        checkpoint.load_weights(self.model, checkpoint.read_tensors(path, "model"), path)
        checkpoint.load_weights(self.step.objective, checkpoint.read_tensors(path, "objective"), path)
        if self.ema:
            checkpoint.load_weights(self.ema.module, checkpoint.read_tensors(path, "ema"), path)
        optimizer = checkpoint.unpack(state["optimizer"], checkpoint.read_tensors(path, "optimizer"))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for i, values in optimizer["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameters[i].shape:
                    # Fused optimizers walk weights and moments in memory order, so both need the same strides.
                    values[name] = torch.empty_like(parameters[i], dtype=value.dtype).copy_(value)
        self.optimizer.load_state_dict(optimizer)
        if state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.rows.restore(*state["rows"], self.device)
        self.done = self._saved = state["step"]
        self._seconds = state["seconds"]
        self.clock.fill_(self.done)


def seed_step(*key: int) -> None:
    """Seed every library's global generator from (seed, step, process)."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # of every device


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
