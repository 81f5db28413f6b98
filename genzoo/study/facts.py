"""What a study keeps of each finished cell: one small JSON file, to be committed. Imports no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from genzoo.config import leaves
from genzoo.errors import UserError
from genzoo.files import read_json
from genzoo.recipe_file import load
from genzoo.study.cells import Cell

PLACE = ("metric", "features", "generator", "part")


def facts_of(cell: Cell, folder: Path, metrics: dict, more: list[dict], effort: dict) -> dict[str, Any]:
    """The facts of a run that has ended well.

    metrics: what it printed, as metrics.json; more: entries of "scores" that programs made of it afterwards; effort:
    seconds, jobs and threads. How a score was made is often the same for many: they refer to it by its number.
    """
    recipe, _ = load(folder / "recipe.yaml")
    recipe.pop("plugins", None)
    if isinstance(recipe.get("data"), dict):
        recipe["data"].pop("root", None)
    lock = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
    from genzoo.evaluation.better import directions

    protocols: list[dict] = []
    scores = []
    for entry in [*metrics["scores"], *more]:
        own = {key: value for key, value in entry.items() if key in (*PLACE, "value") or isinstance(value, float)}
        protocol = {key: value for key, value in entry.items() if key not in own}
        if protocol not in protocols:
            protocols.append(protocol)
        scores.append({**own, "protocol": protocols.index(protocol)})
    made = {entry["metric"] for entry in scores}
    return {
        "cell": cell.name,
        "dims": cell.dims,
        "asked": cell.asked,
        "recipe": cell.recipe.name,
        "edits": [word for word in cell.words if not word.startswith("data.root=")],
        "recipe_sha256": hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        "data": lock["data"],
        "versions": lock["versions"],
        "device": lock["device"],
        "effort": effort,
        "numbers": {
            key: value
            for section, tree in metrics.items()
            if section not in ("scores", "protocol", "name") and isinstance(tree, dict)
            for key, value in leaves(tree, section)
            if not any(step.isdecimal() for step in key.split("."))  # curves and histograms stay in the run folder
            and isinstance(value, int | float | str)
        },
        "lower": directions(made),
        "scores": scores,
        "protocols": protocols,
    }


def farthest(a: dict, b: dict) -> tuple[float, str]:
    """The largest relative difference between the same scores of two runs' facts, and which score that is."""
    sides = [
        {tuple(entry[key] for key in PLACE): entry["value"] for entry in facts["scores"] if entry["value"] is not None}
        for facts in (a, b)
    ]
    if sides[0].keys() != sides[1].keys():
        return float("inf"), "they do not have the same scores"
    found = (
        (abs(value - sides[1][place]) / max(abs(value), abs(sides[1][place]), 1e-12), " ".join(place))
        for place, value in sides[0].items()
    )
    return max(found, default=(0.0, "no scores"))


def read(folder: Path, cells: list[Cell]) -> tuple[list[dict], list[str]]:
    """The facts of the cells as the study asks for them now, and the names of those that are of an earlier study.

    Each entry of "scores" is whole again.
    """
    found, stale = [], []
    for cell in cells:
        facts = read_one(folder, cell)
        if facts is None:
            continue
        if facts["asked"] != cell.asked:
            stale.append(cell.name)
            continue
        protocols = facts.pop("protocols")
        # popped first: the protocol's own field of that name, which not every score has, takes the number's place
        numbered = [(entry.pop("protocol"), entry) for entry in facts["scores"]]
        facts["scores"] = [{**entry, **protocols[number]} for number, entry in numbered]
        found.append(facts)
    return found, stale


def read_one(folder: Path, cell: Cell) -> dict | None:
    """The facts file of a cell, as it lies there; None where there is none."""
    file = facts_file(folder, cell)
    remedy = "the study makes it anew"
    facts = read_json(file, remedy)
    if facts is not None and (missing := {"asked", "dims", "numbers", "lower", "scores", "protocols"} - facts.keys()):
        raise UserError(f"{file} lacks {', '.join(sorted(missing))}: remove it, and {remedy}")
    return facts


def facts_file(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.name}.json"
