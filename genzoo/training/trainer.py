"""The one trainer. It owns the clock and knows no part by name: the objective owns the loss.

The randomness of step i is seeded by (seed, i, process), and its images are a function of (seed, i): a checkpoint
needs no random state, and neither panels nor measurements between steps can change what training does.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import Interrupted, UserError, reason
from genzoo.numerics import full_float32
from genzoo.training import checkpoint
from genzoo.training.config import TrainConfig
from genzoo.training.log import Log, averages, last_epoch
from genzoo.training.preflight import refuse_settings
from genzoo.training.shares import total_norm
from genzoo.training.signals import Signals, resume_command
from genzoo.training.state import State
from genzoo.training.step import Step, seed_step

log = logging.getLogger("genzoo")

Panel = Callable[[nn.Module, int], "dict[str, Path] | None"]


@full_float32()
def train(
    step: Step,
    rows: np.ndarray,
    config: TrainConfig,
    *,
    folder: Path,
    seed: int,
    resume: bool = False,
    panel: Panel | None = None,
    progress: bool = True,
    profile: bool = False,
    metadata: dict[str, str] | None = None,
    again: str | None = None,
) -> dict[str, Any]:
    """Train what `step` holds on `rows` until `config.steps`; checkpoints and train.jsonl go into `folder`.

    step: `Step(model, objective, terms)` on images, uint8 n h w c, or what else genzoo.training.step describes, on an
    array of its own. resume: go on from the newest whole checkpoint of `folder`, from the start if there is none.
    panel(model, step): called with the model in eval mode (its average, with EMA) every `panel_every` steps, on the
    main process; it may return pictures by name, PNG files, for the trackers.
    profile: record some early steps into `folder/profile`. metadata: strings for the header of every saved file.
    again: the command that goes on after a signal, which its message names; None: that of a run in `folder`.

    Afterwards the model holds the final weights (the average, with EMA), on its device, in eval mode. Returns the
    `train` section of metrics.json. Raises Interrupted after a signal that ends it, once a checkpoint is saved;
    UserError for settings that cannot work, a loss that is not finite, too little memory, or a full disk.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    refuse_settings(config)
    step.refuse(rows)
    try:
        state = State(step, rows, config, Path(folder), seed, resume, metadata or {})
        Trainer(state, again or resume_command(state.folder)).run(panel, progress, profile)
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
            raise
        raise UserError(
            f"out of memory with train.batch_size {config.batch_size} in {config.grad_accumulation} part(s): raise "
            "train.grad_accumulation (less memory; only BatchNorm sees a difference), or lower train.batch_size"
        ) from error
    state.hand_back()
    return summarize(state)


class Trainer:
    """The loop, and what it says."""

    def __init__(self, state: State, again: str):
        self.state, self.config, self.again = state, state.config, again

    def run(self, panel: Panel | None, progress: bool, profile: bool = False) -> None:
        state, config, accelerator = self.state, self.config, self.state.accelerator
        self._began = self._interval_began = time.perf_counter()
        self._interval_start = state.done
        over = config.max_time is not None and state.seconds > config.max_time
        if profiled := profile and accelerator.is_main_process:
            from genzoo.training.profile import profiling, stage
        with (
            Signals() as signals,
            Log(
                state.folder / "train.jsonl", accelerator, state.done, config.steps, progress, state.metadata
            ) as self.log,
            closing(state.feed.batches(state.done)) as batches,
            profiling(state.folder) if profiled else nullcontext() as tick,
        ):
            draw, forward, backward = batches.__next__, state.wrapped, accelerator.backward
            optimize, average = state.optimizer.step, state.average and state.average.update
            if tick:
                draw, forward, backward = stage("feed", draw), stage("forward", forward), stage("backward", backward)
                optimize, average = stage("optimizer", optimize), average and stage("ema", average)
            while state.done < config.steps and not over:
                seed_step(state.seed, state.done, accelerator.process_index, state.device)
                state.schedule.step_update(state.done)
                if config.on_nonfinite == "skip":
                    buffers = [buffer.clone() for buffer in state.step.buffers()]
                for part in range(1, config.grad_accumulation + 1):
                    last = part == config.grad_accumulation
                    with nullcontext() if last else accelerator.no_sync(state.wrapped):
                        terms = forward(draw(), state.clock)
                        backward(terms["loss"])
                    state.rows.add_part(terms)
                if not state.done:
                    self._name_unused()
                row = state.rows.end_step(self._clip())
                if config.on_nonfinite == "skip" and not self._finite(row):
                    self._undo(buffers)
                else:
                    optimize()
                    if average:
                        average(state.done)
                state.optimizer.zero_grad()
                state.done += 1
                state.clock += 1

                if tick:
                    tick()
                self.log.advance(state.done)
                over = self._agreed(config.max_time is not None and self.seconds() > config.max_time)
                stopped = self._agreed(signals.received is not None)
                if state.done % config.log_every == 0 or state.done == config.steps or over:
                    self._write_line()
                if stopped or _due(state.done, config.checkpoint_every):
                    self._save()
                if panel and _due(state.done, config.panel_every):
                    self._show(panel)
                if stopped:
                    raise self._interrupted(signals)
            if state.rows:  # of a run that was interrupted and now is to end where it stopped
                self._write_line()
                state.saved = 0  # the checkpoint still has these rows
            if state.saved != state.done:
                self._save()
            if panel and not _due(state.done, config.panel_every):
                self._show(panel)
            state.seconds = self.seconds()
            if signals.received:
                raise self._interrupted(signals)

    def seconds(self) -> float:
        """Training time, earlier parts of the run included."""
        return self.state.seconds + time.perf_counter() - self._began

    def _interrupted(self, signals: Signals) -> Interrupted:
        return Interrupted(
            f"stopped by {signals.received} after step {self.state.done}, which is saved; go on with: {self.again}"
        )

    def _clip(self) -> Tensor | None:
        """Clip the gradients where that is asked for; the model's and the objective's norm before it.

        A term's own network is clipped by its own norm; one that is not finite makes the whole step so. None where no
        step needs its norm and the line has one: reading all gradients once more takes time.
        """
        config, scaler = self.config, self.state.accelerator.scaler
        if self.state.rows and config.clip_grad_norm is None and config.on_nonfinite == "stop" and scaler is None:
            return None
        self.state.accelerator.unscale_gradients()  # of fp16's loss scale
        norms = []
        for parameters in (self.state.parameters, *self.state.own_parameters):
            norms.append(total_norm([p.grad for p in parameters if p.grad is not None]))
            if config.clip_grad_norm is not None:
                nn.utils.clip_grads_with_norm_(parameters, config.clip_grad_norm, norms[-1])
        return norms[0] if len(norms) == 1 else torch.where(torch.stack(norms).isfinite().all(), norms[0], torch.nan)

    def _name_unused(self) -> None:
        """A parameter that the loss does not reach stays at its first value, which is hardly meant."""
        unused = [name for name, p in self.state.step.named_parameters() if p.requires_grad and p.grad is None]
        if unused:
            more = f" and {len(unused) - 4} more" if len(unused) > 4 else ""
            log.warning("no gradient reaches %s%s: trained as they began", ", ".join(unused[:4]), more)

    def _finite(self, row: Tensor) -> bool:
        return bool(torch.isfinite(self.state.accelerator.reduce(row)).all())

    def _undo(self, buffers: list[Tensor]) -> None:
        """Forget a skipped step: what its forward pass did to BatchNorm's averages and the objective's gamma."""
        for buffer, before in zip(self.state.step.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if self.state.accelerator.scaler is not None:
            self.state.accelerator.scaler.update()

    def _agreed(self, flag: bool) -> bool:
        """Whether any process raises the flag; several ask each other only at the end of an interval."""
        accelerator = self.state.accelerator
        if accelerator.num_processes == 1:
            return flag
        if self.state.done % self.config.log_every:
            return False
        return bool(accelerator.reduce(torch.tensor(float(flag), device=self.state.device)))

    def _read_rows(self) -> list[list[float]]:
        """The scalars of the steps since the last line; UserError names the first step that is not finite."""
        state = self.state
        rows = state.rows.read()
        bad = [i for i, row in enumerate(rows) if not all(map(math.isfinite, row))]
        hopeless = len(bad) == len(rows) >= self.config.log_every
        if bad and (scaler := state.accelerator.scaler) is not None:
            # fp16 expects gradients that overflow: it skips the step and halves its scale, which begins at 65536.
            hopeless = hopeless and scaler.get_scale() < 1
            bad = bad if hopeless else [i for i in bad if not all(map(math.isfinite, rows[i][:-1]))]
        if bad and (self.config.on_nonfinite == "stop" or hopeless):
            values = ", ".join(
                f"{name} {value:.4g}" for name, value in zip(state.rows.names, rows[bad[0]], strict=True)
            )
            step = state.done - len(rows) + bad[0] + 1
            good = f"the last good checkpoint is of step {state.saved}" if state.saved else "there is no checkpoint yet"
            raise UserError(
                f"step {step} is not finite: {values}; {good}. Lower train.optimizer.lr, set train.clip_grad_norm or "
                "train.precision=fp32, or skip such steps with train.on_nonfinite=skip"
            )
        return rows

    def _write_line(self) -> None:
        state, batch_size = self.state, self.config.batch_size
        rows, now = self._read_rows(), time.perf_counter()
        self._means = averages(state.rows.names, rows)
        wanted = self.config.keep_best
        if wanted and wanted not in state.rows.names:
            raise UserError(
                f"train.keep_best: the objective gives no '{wanted}' (it gives: {', '.join(state.rows.names)})"
            )
        self.log.write(
            {
                "step": state.done,
                "images": state.done * batch_size,
                "epoch": state.done * batch_size / len(state.feed.rows),
                **self._means,
                "lr": state.optimizer.param_groups[0]["lr"],
                "images_per_s": (state.done - self._interval_start) * batch_size / (now - self._interval_began),
                "seconds": self.seconds(),
            }
        )
        state.rows.clear()
        self._interval_began, self._interval_start = now, state.done

    def _show(self, panel: Panel) -> None:
        """Draw; a picture that fails costs no step."""
        model = self.state.best_model()
        if self.state.accelerator.is_main_process:
            try:
                with torch.no_grad():
                    made = panel(model.eval(), self.state.done)
                self.log.show(made or {}, self.state.done)
            except Exception as error:  # whatever a part or a tracker does with it
                log.warning("no picture of step %d: %s", self.state.done, reason(error))
            self.state.step.train()

    def _save(self) -> None:
        rows = self._read_rows()  # first of all: a step that is not finite is never saved
        weights = [p.detach() for group in self.state.optimizer.param_groups for p in group["params"]]
        if not total_norm(weights).isfinite():  # the gradients were not, and the loss was
            raise UserError(f"the weights are not finite after step {self.state.done}: lower train.optimizer.lr")
        self.log.sync()
        self.state.save(self.seconds(), rows, averages(self.state.rows.names, rows) if rows else self._means)


def summarize(state: State) -> dict[str, Any]:
    """What metrics.json says about training."""
    batch_size, parameters = state.config.batch_size, state.given.parts["model"].parameters()
    last = last_epoch(state.folder / "train.jsonl", len(state.feed.rows) / batch_size)
    notes = state.given.diagnoses(last) if hasattr(state.given, "diagnoses") else []
    on_gpu = state.device.type == "cuda"
    best = state.config.keep_best and checkpoint.best(state.folder, state.config.keep_best)
    return {
        "num_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "steps": state.done,
        "images_per_s": state.done * batch_size / state.seconds,
        "seconds": state.seconds,
        "reconstruction_mse": last.get("mse"),
        "kl": last.get("kl"),
        "precision": state.precision,
        **(state.compilations.summary() if state.compilations else {}),
        **({"best_checkpoint": best.name} if best else {}),
        "device": torch.cuda.get_device_name(state.device) if on_gpu else state.device.type,
        **({"notes": notes} if notes else {}),
    }


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
