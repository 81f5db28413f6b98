"""train.jsonl, the progress bar, and the trackers: what a run says while it trains."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from genzoo.files import write_text

log = logging.getLogger("genzoo")


class Rows:
    """The scalars of every step since the last line, kept on the device and read together.

    Nothing here waits for the device until `read`, yet the exact step of a value that is not finite is known.
    """

    def __init__(self, accelerator: Any):
        self._accelerator = accelerator
        self.names: list[str] = []
        self._rows: list[Tensor] = []
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add_part(self, terms: dict[str, Tensor]) -> None:
        """Take the objective's terms for one accumulated part: copied, as CUDA graphs reuse their outputs' memory."""
        self.names = [*terms, "grad_norm"]
        self._parts.append(torch.stack([term.detach().float() for term in terms.values()]))

    def end_step(self, grad_norm: Tensor | None) -> Tensor:
        """The step's row, on the device; without a norm of its own, with that of the row before."""
        norm = self._rows[-1][-1] if grad_norm is None else grad_norm.detach().float()
        row = torch.cat([torch.stack(self._parts).mean(0), norm.reshape(1)])
        self._parts = []
        self._rows.append(row)
        return row

    def read(self) -> list[list[float]]:
        """One list a step, averaged over the processes; float32 values."""
        if not self._rows:
            return []
        rows = self._accelerator.reduce(torch.stack(self._rows), "mean")
        self._rows = list(rows)
        return rows.tolist()

    def restore(self, names: list[str], rows: list[list[float]], device: torch.device) -> None:
        self.names, self._rows = names, list(torch.tensor(rows, device=device).reshape(len(rows), len(names)))

    def clear(self) -> None:
        self._rows = []


def averages(names: list[str], rows: list[list[float]]) -> dict[str, float]:
    """Mean of each column over the rows that are finite, and how many were not (`skipped`, when there are any)."""
    finite = [row for row in rows if all(map(math.isfinite, row))]
    line = {name: math.fsum(row[i] for row in finite) / len(finite) for i, name in enumerate(names) if finite}
    return line if len(finite) == len(rows) else {**line, "skipped": len(rows) - len(finite)}


class Log:
    """Appends lines to train.jsonl, moves the bar (on a terminal) or prints the line, and feeds the trackers.

    Only the main process says anything. Progress goes to stderr. metadata: what the trackers record of the run.
    """

    def __init__(self, path: Path, accelerator: Any, start: int, steps: int, show: bool, metadata: dict[str, str]):
        # What TensorBoard has beyond the checkpoint that training goes on from is out of date.
        options = {"tensorboard": {"purge_step": start + 1}} if start else {}
        accelerator.init_trackers("genzoo", config=metadata, init_kwargs=options)
        for tracker in accelerator.trackers:
            if tracker.name == "tensorboard":  # shows a configuration as one cell of a table; as a text it can be read
                tracker.log({name: textwrap.indent(text, "    ") for name, text in metadata.items()}, step=start)
        self.path, self._accelerator = path, accelerator
        self._main = accelerator.is_main_process
        self._file = path.open("a") if self._main else None
        console = Console(stderr=True)
        self._plain = show and self._main and not console.is_terminal and sys.stderr is not None  # None: closed
        self._bar = Progress(
            TextColumn("{task.completed}/{task.total} steps"),
            BarColumn(20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            refresh_per_second=2,
            disable=not (show and self._main and console.is_terminal),
        )
        self._task = self._bar.add_task("train", total=steps, completed=start, text="")

    def __enter__(self) -> Log:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        for tracker in self._accelerator.trackers:
            tracker.finish()
        if self._file:
            self._file.close()

    def advance(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def write(self, line: dict[str, float]) -> None:
        """line: `step` and the scalars of the interval that ends there."""
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        rate = f"{line['images_per_s']:.0f} images/s"
        self._bar.update(self._task, text=f"loss {line.get('loss', math.nan):.4g}  {rate}")
        if self._plain:
            terms = {"loss": "", "mse": " per pixel", "kl": " nats/image"}  # those of them that the objective gives
            values = [f"{name} {line[name]:.4g}{unit}" for name, unit in terms.items() if name in line]
            try:
                print("  ".join([f"step {line['step']}", *values, rate]), file=sys.stderr, flush=True)
            except OSError as error:  # on a full disk, perhaps: the run goes on without its log
                self._plain = False
                log.warning("no more lines on stderr: %s", error)
        self._accelerator.log({name: value for name, value in line.items() if name != "step"}, step=line["step"])

    def show(self, pictures: dict[str, Path], step: int) -> None:
        """Hand PNG files, by name, to the trackers that take pictures."""
        for tracker in self._accelerator.trackers:
            if pictures and hasattr(tracker, "log_images"):
                images = {name: np.asarray(Image.open(path).convert("RGB"))[None] for name, path in pictures.items()}
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images(images, step=step, **layout)

    def sync(self) -> None:
        """A checkpoint must not outlive the lines that lead up to it."""
        if self._file:
            os.fsync(self._file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of train.jsonl, steps ascending; a warning counts those that are none of its own."""
    lines, foreign = [], 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
            if not isinstance(line["step"], int) or line["step"] <= (lines[-1]["step"] if lines else 0):
                raise ValueError(line)
            if not all(isinstance(value, int | float) for value in line.values()):
                raise TypeError(line)
            lines.append(line)
        except (ValueError, TypeError, LookupError, RecursionError):
            foreign += 1
    if foreign:
        log.warning("%s: %d line(s) that training did not write, or not whole, are passed over", path, foreign)
    return lines


def truncate(path: Path, step: int) -> None:
    """Drop the lines after `step`, and whatever is no line of training's, such as one that was cut short."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in read_lines(path) if line["step"] <= step))


def last_epoch(path: Path, steps_per_epoch: float) -> dict[str, float]:
    """Scalars of train.jsonl averaged over the steps of the last epoch (its whole intervals; at least the last one)."""
    lines = read_lines(path)
    starts = [0, *(line["step"] for line in lines)]
    first = starts[-1] - steps_per_epoch
    spans = [(line["step"] - start, line) for start, line in zip(starts, lines, strict=False)]
    spans = [(steps, line) for steps, line in spans if line["step"] - steps >= first] or spans[-1:]

    def mean(name: str) -> float:
        found = [(steps, line[name]) for steps, line in spans if name in line]
        return math.fsum(steps * value for steps, value in found) / sum(steps for steps, _ in found)

    return {name: mean(name) for _, line in spans for name in line}
