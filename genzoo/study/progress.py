"""How far a study is: what became of each cell, and the time left by the speed measured so far. Imports no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from genzoo.edits import apply
from genzoo.recipe_file import load
from genzoo.study.cells import Cell
from genzoo.study.facts import read_one

DONE, FAILED, BEGUN, TO_DO = "done", "failed", "begun", "to do"


@dataclass
class State:
    """Of a cell: what became of it, its steps, and the seconds it took or will take, where that is known."""

    cell: Cell
    word: str
    step: int
    steps: int
    seconds: float | None = None
    reason: str = ""

    @property
    def left(self) -> float | None:
        if self.word == DONE:
            return 0.0
        return None if self.seconds is None else self.seconds * (1 - 0.9 * self.step / max(1, self.steps))


def states(cells: Sequence[Cell], runs: Path, facts: Path) -> list[State]:
    found = [_state(cell, runs, facts, last(runs)) for cell in cells]
    measured = [(one.cell.dims, one.seconds) for one in found if one.word == DONE and one.seconds]
    for one in found:
        if one.word != DONE:
            one.seconds = _expected(one.cell.dims, measured)
    return found


def time_left(found: Sequence[State], jobs: int) -> str:
    left = [one.left for one in found]
    return "not known before a cell has ended" if None in left else words_of(sum(left) / jobs)


def is_done(cell: Cell, facts: Path) -> bool:
    kept = read_one(facts, cell)
    return kept is not None and kept["asked"] == cell.asked


def _state(cell: Cell, runs: Path, facts: Path, events: dict[str, dict]) -> State:
    steps, event = _steps(cell), events.get(cell.name, {})
    if is_done(cell, facts):
        return State(cell, DONE, steps, steps, read_one(facts, cell)["effort"]["seconds"])
    folder = runs / cell.name
    step = min(_step(folder), steps)
    if event.get("asked") == cell.asked and event["reason"] and event["exit"] != 130:
        return State(cell, FAILED, step, steps, reason=event["reason"])
    return State(cell, BEGUN if (folder / "recipe.yaml").is_file() else TO_DO, step, steps)


def _expected(dims: dict[str, str], measured: list[tuple[dict[str, str], float]]) -> float | None:
    """The median time of those that are most alike."""
    alike = [(sum(one.get(dim) == value for dim, value in dims.items() if dim != "seed"), s) for one, s in measured]
    return median(s for num, s in alike if num == max(alike)[0]) if alike else None


def _steps(cell: Cell) -> int:
    tree, origins = load(cell.recipe)
    apply(tree, origins, cell.words)
    train = tree.get("train")
    steps = train.get("steps") if isinstance(train, dict) else None
    return int(steps) if isinstance(steps, int | float) else 0


def _step(folder: Path) -> int:
    """The last that training logged."""
    log = folder / "train.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    for line in reversed(lines[-2:]):  # the last may be half-written
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError):
            continue
    return 0


# --- The log of what was done -----------------------------------------------------------------------------------------


def note(runs: Path, event: dict) -> None:
    """A line in study.jsonl; several studies may write it at once."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / "study.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def events(runs: Path) -> list[dict]:
    log = runs / "study.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []


def last(runs: Path) -> dict[str, dict]:
    """The last event of each cell."""
    return {event["cell"]: event for event in events(runs)}


def spent(runs: Path, cell: Cell) -> float | None:
    """Seconds that the cell has taken, with those of attempts that were interrupted; None where nobody counted."""
    mine = [event for event in events(runs) if (event["cell"], event["asked"]) == (cell.name, cell.asked)]
    return sum(event["seconds"] for event in mine) if any(not event["reason"] for event in mine) else None


def gains(runs: Path, cells: Sequence[Cell]) -> dict[int, float]:
    """jobs -> how many times the cells an hour of one job, by cells alike that ended, undisturbed, with either."""
    kinds = {cell.name: tuple(value for dim, value in cell.dims.items() if dim != "seed") for cell in cells}
    took: dict[tuple, dict[int, list[float]]] = {}
    for event in events(runs):
        if event["cell"] in kinds and event["step"] == "run" and event["anew"] and not event["reason"]:
            took.setdefault(kinds[event["cell"]], {}).setdefault(event["jobs"], []).append(event["seconds"])
    ratios: dict[int, list[float]] = {}
    for by_jobs in took.values():
        for jobs in by_jobs.keys() - {1} if 1 in by_jobs else ():
            ratios.setdefault(jobs, []).append(jobs * median(by_jobs[1]) / median(by_jobs[jobs]))
    return {jobs: median(found) for jobs, found in sorted(ratios.items())}


def words_of(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
