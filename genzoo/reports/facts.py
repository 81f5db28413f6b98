"""What the files of a run folder say, for its pages. Reads all of it, runs none of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genzoo.errors import UserError
from genzoo.evaluation.protocol import is_score
from genzoo.recipe import Recipe
from genzoo.recipe_file import dump
from genzoo.run_folder import RunFolder


@dataclass
class Facts:
    """A run folder, read. notes: what could not be read or is not there, a sentence each."""

    folder: Path
    name: str
    recipe: Recipe | None = None
    own: str = ""  # YAML of the options that are not the defaults
    complete: str = ""
    lock: dict = field(default_factory=dict)
    lines: list[dict] = field(default_factory=list)  # of train.jsonl
    metrics: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step that is known of."""
        return max([self.metrics.get("train", {}).get("steps") or 0, *(line["step"] for line in self.lines[-1:])])

    @property
    def planned(self) -> int | None:
        return self.recipe.train.steps if self.recipe else None

    @property
    def interrupted(self) -> bool:
        return bool(self.planned and self.step < self.planned)

    def scores(self) -> list[dict]:
        return self.metrics.get("scores", [])


def read(folder: Path, plugins: Sequence[str] = ()) -> Facts:
    """UserError where this is no run folder; whatever else is missing or damaged is noted.

    plugins: files that register parts of it, to be executed.
    """
    if not any((folder / name).is_file() for name in ("recipe.yaml", "metrics.json")):
        raise UserError(f"{folder} is not a run folder: it has no recipe.yaml (`genzoo run RECIPE --out {folder}`)")
    facts = Facts(folder, folder.resolve().name)
    facts.metrics = _sound(facts, _json(facts, "metrics.json") or {})
    facts.lock = _json(facts, "lock.json") or {}
    facts.lines = _lines(facts)
    facts.name = str(facts.metrics.get("name", facts.name))
    if (folder / "recipe.yaml").is_file():
        facts.complete = (folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace")
        try:
            facts.recipe = RunFolder(folder).recipe(plugins=plugins)
            facts.own = dump(facts.recipe.model_dump(mode="json", exclude_defaults=True))
            facts.complete = facts.recipe.to_yaml()
            facts.name = facts.recipe.name
        except UserError as error:
            facts.notes.append(f"The recipe cannot be used here: {error}")
    return facts


def status(facts: Facts) -> tuple[str, str]:
    """A word on how far the run is, and its class."""
    if facts.interrupted:
        return f"interrupted at step {facts.step:,} of {facts.planned:,}", "warn"
    if not facts.scores():
        return "not scored yet", "warn"
    missing = sum(entry["value"] is None for entry in facts.scores())
    return (f"finished, {missing} score(s) skipped", "warn") if missing else ("finished", "")


def _json(facts: Facts, name: str) -> dict | None:
    file = facts.folder / name
    if not file.is_file():
        return None
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        facts.notes.append(f"{name} cannot be read: {error}")
        return None
    if not isinstance(tree, dict):
        facts.notes.append(f"{name} is not what genzoo writes")
        return None
    return tree


def _sound(facts: Facts, metrics: dict) -> dict:
    """Without the sections, and the scores, that are not of the kind that genzoo writes."""
    kinds: dict[str, Any] = {"scores": list, **dict.fromkeys(("train", "latent", "split", "protocol"), dict | None)}
    kept = {key: value for key, value in metrics.items() if isinstance(value, kinds.get(key, object))}
    scores = kept.get("scores", [])
    sound = [entry for entry in scores if is_score(entry)]
    kept |= {"scores": sound} if scores else {}
    if foreign := len(metrics) - len(kept) + len(scores) - len(sound):
        facts.notes.append(f"{foreign} entries of metrics.json are not what genzoo writes and are left out")
    return kept


def _lines(facts: Facts) -> list[dict]:
    """The lines of train.jsonl in the order of their steps; of a step that was done again, the last."""
    file = facts.folder / "train.jsonl"
    found, foreign = {}, 0
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        try:
            line = json.loads(text)
            if not all(isinstance(value, int | float) for value in line.values()):
                raise TypeError(line)
            found[int(line["step"])] = line
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            foreign += 1
    if foreign:
        facts.notes.append(f"{foreign} line(s) of train.jsonl cannot be read and are left out")
    return [found[step] for step in sorted(found)]
