"""Running a study: each cell a `genzoo run` in a process of its own, several at once, the cores shared out."""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from genzoo.edits import apply
from genzoo.errors import UserError, clean
from genzoo.files import write_json
from genzoo.recipe_file import load
from genzoo.study import facts as cell_facts
from genzoo.study.cells import Cell, located
from genzoo.study.progress import DONE, is_done, note, spent, states, time_left, words_of

log = logging.getLogger("genzoo")
POLL = 0.2  # seconds
INTERRUPTED = 130


@dataclass(frozen=True)
class Place:
    """Where a study works: its file, the folders of runs and facts; and what every run is told.

    named: the plugin files of the study; plugins: those of the user, in this call.
    """

    study: Path
    runs: Path
    facts: Path
    named: list[str] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)  # data set -> where its files are on this machine


@dataclass
class Step:
    """A command of a cell. output: the file that its JSON goes to; whole, it says that the step has been made."""

    name: str
    command: list[str]
    output: Path

    @property
    def made(self) -> dict | None:
        if not self.output.is_file():
            return None
        try:
            made = json.loads(self.output.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return made if isinstance(made, dict) and "scores" in made else None


@dataclass
class Job:
    """A cell in hand, in one of the study's slots, and the step that runs."""

    cell: Cell
    slot: int
    lock: IO[str]  # its processes inherit it: a run goes on, and keeps it, when the study that began it is killed
    steps: list[Step]
    step: Step | None = None
    process: subprocess.Popen | None = None
    begun: float = 0.0
    anew: bool = True  # no earlier attempt had begun it


def check(cells: Sequence[Cell], place: Place, execute: bool) -> None:
    """Read the recipe of every cell and build its model on the meta device. UserError names all faults' places.

    execute: the plugin files that the study or the recipes name, also where no run of this user's has before.
    """
    from genzoo.plugin_files import load_named
    from genzoo.preparation import build_parts
    from genzoo.recipe import read

    faults: dict[str, None] = {}
    passed_over = load_named(place.study, place.named, place.plugins, execute)
    seen = set()
    for cell in cells:
        kind = (cell.recipe, *(word for word in cell.words if not word.startswith("seed=")))
        if kind in seen:
            continue
        seen.add(kind)
        try:
            build_parts(read(cell.recipe, cell.words, place.plugins, execute=execute))
            for program in cell.after:
                if not (file := place.study.parent / shlex.split(program)[0]).is_file():
                    raise UserError(f"after: there is no program {file}")
        except UserError as error:
            text = located(str(error), cell.origins)
            own = any(text.startswith(f"{origin}:") for origin in cell.origins.values())
            faults[text if own else f"{cell.place}: {cell.name}: {text}"] = None
    if faults:
        raise UserError("\n".join([*faults, *passed_over]))


class Work:
    """Makes every cell that is not done, `jobs` at once."""

    def __init__(self, cells: Sequence[Cell], place: Place, jobs: int):
        self.cells, self.place, self.jobs, self.threads = cells, place, jobs, threads_of(jobs)
        self.failed: dict[str, str] = {}  # cell -> why
        self.waited: set[str] = set()  # cells that another process had in hand

    def run(self) -> None:
        """Interrupted, it lets the cells in hand save their step and raises KeyboardInterrupt."""
        if os.name == "nt":
            raise UserError("studies are made on Linux and macOS; --plan and --table work here, too")
        queue = [one.cell for one in states(self.cells, self.place.runs, self.place.facts) if one.word != DONE]
        num, hands = len(queue), []
        if done := len(self.cells) - num:
            log.info("%d of %d cells are done already", done, len(self.cells))
        # SIGINT, too: what a shell starts in the background ignores it, and so would its runs
        before = {one: signal.signal(one, signal.default_int_handler) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            while queue or hands:
                for cell in list(queue) if len(hands) < self.jobs else ():
                    if len(hands) < self.jobs and (job := self._taken(cell, hands)):
                        queue.remove(cell)
                        hands.append(job)
                        log.info("%s: begins (%d of %d)", cell.name, num - len(queue), num)
                for job in list(hands):
                    if (job.process is None or job.process.poll() is not None) and not self._goes_on(job):
                        hands.remove(job)
                        job.lock.close()
                        log.info("time left: %s", self.left())
                time.sleep(POLL)
        except KeyboardInterrupt:
            self._stop(hands)
            raise
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def left(self) -> str:
        return time_left(states(self.cells, self.place.runs, self.place.facts), self.jobs)

    def _taken(self, cell: Cell, hands: list[Job]) -> Job | None:
        """The cell with its steps; None while another process has it in hand."""
        import fcntl

        folder = self.place.runs / cell.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            if cell.name not in self.waited:
                self.waited.add(cell.name)
                log.info("%s: another process is making it; this one waits for it", cell.name)
            return None
        slot = min(set(range(self.jobs)) - {job.slot for job in hands})
        return Job(cell, slot, lock, self._steps(cell, folder), anew=not (folder / "recipe.yaml").is_file())

    def _steps(self, cell: Cell, folder: Path) -> list[Step]:
        python, roots = sys.executable, self.place.roots
        command = [python, "-m", "genzoo", "run", str(cell.recipe), *cell.words]
        command += [f"data.root={root}" for name, root in roots.items() if name == data_of(cell)]
        command += [word for plugin in (*self.place.named, *self.place.plugins) for word in ("--plugin", plugin)]
        programs = {"run": [*command, "--out", str(folder), "--resume", "--json"]}
        for n, program in enumerate(cell.after, 1):
            file, *options = shlex.split(program)
            programs[f"after-{n}"] = [python, str(self.place.study.parent / file), str(folder), *options]
        return [
            Step(name, command, folder.with_name(f"{folder.name}.{asked[:12]}.{name.partition('-')[0]}.json"))
            for (name, command), asked in zip(programs.items(), cell.steps, strict=True)
        ]

    def _goes_on(self, job: Job) -> bool:
        """Start the job's next step, after a look at how the one before ended; False when the job is at its end."""
        if job.process and (reason := self._reason(job)):
            self.failed[job.cell.name] = reason
            log.warning("%s: failed: %s", job.cell.name, reason)
            return False
        job.step = next((step for step in job.steps if step.made is None), None)
        if job.step is None:
            if not is_done(job.cell, self.place.facts):  # by another process, meanwhile
                self._keep(job)
            return False
        job.begun = time.monotonic()
        with job.step.output.open("wb") as out, self._log(job).open("wb" if job.process is None else "ab") as err:
            job.process = subprocess.Popen(
                job.step.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=environment(job.slot, self.jobs, self.threads), start_new_session=True,
                pass_fds=[job.lock.fileno()],
            )  # fmt: skip
        return True

    def _reason(self, job: Job) -> str:
        """Why the step that has ended failed; empty where it did not. It is noted."""
        code, reason = job.process.returncode, ""
        if code:
            text = self._log(job).read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
            said = next((line for line in reversed(lines) if line.startswith("genzoo: ")), lines[-1])
            reason = f"exit {code}: {clean(said)} ({self._log(job)})"
        elif job.step.made is None:
            reason = f"{job.step.output} holds no JSON object with `scores`"
        note(self.place.runs, {
            "cell": job.cell.name, "asked": job.cell.asked, "step": job.step.name, "exit": code, "reason": reason,
            "seconds": time.monotonic() - job.begun, "jobs": self.jobs, "threads": self.threads, "anew": job.anew,
        })  # fmt: skip
        return reason

    def _keep(self, job: Job) -> None:
        """The facts of a cell whose steps are all made."""
        metrics, *more = (step.made for step in job.steps)
        scores = [entry for made in more for entry in made["scores"]]
        seconds = spent(self.place.runs, job.cell)  # None where a study that was killed had begun it
        effort = {"seconds": seconds, "jobs": self.jobs, "threads": self.threads}
        made = cell_facts.facts_of(job.cell, self.place.runs / job.cell.name, metrics, scores, effort)
        write_json(cell_facts.facts_file(self.place.facts, job.cell), made)
        log.info("%s: done%s", job.cell.name, f" ({words_of(seconds)})" if seconds else "")

    def _stop(self, hands: list[Job]) -> None:
        running = [job for job in hands if job.process and job.process.poll() is None]
        for job in running:
            job.process.send_signal(signal.SIGINT)
        for job in running:
            job.process.wait()
            self._reason(job)

    def _log(self, job: Job) -> Path:
        return self.place.runs / f"{job.cell.name}.log"


def threads_of(jobs: int) -> int:
    """Of each job, so that jobs never share a core. UserError where there are fewer cores than jobs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs > cores:
        raise UserError(f"--jobs {jobs}: there are {cores} cores here, and jobs that share a core gain nothing")
    return min(cores // jobs, int(os.environ.get("OMP_NUM_THREADS") or cores))


def environment(slot: int, jobs: int, threads: int) -> dict[str, str]:
    """Of a job: its share of the cores, and, of several GPUs, its own."""
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}
    if jobs > 1:
        import torch

        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return environment


def data_of(cell: Cell) -> str | None:
    """The data set that a cell's recipe names."""
    tree, origins = load(cell.recipe)
    apply(tree, origins, cell.words)
    data = tree.get("data")
    return data.get("name") if isinstance(data, dict) else data
