"""The cells of a study: one run each, with its recipe, its edits and its place in the tables. Imports no torch."""

import hashlib
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genzoo.edits import apply
from genzoo.errors import UserError, suggestion
from genzoo.recipe_file import Place, find, load
from genzoo.study.study import OF_CELLS, OF_SCORES, Group, Study, label


@dataclass(frozen=True)
class Cell:
    """One run. dims: what tells it from the others; words: its KEY=VALUE edits; origins: word -> where that stands."""

    name: str  # also where it lies, in the study's folder
    dims: dict[str, str]
    recipe: Path
    words: tuple[str, ...]
    after: tuple[str, ...] = ()
    place: str = ""
    origins: dict[str, str] = field(default_factory=dict)
    asked: str = ""  # sha256 of what the study asks for, but for the place of the data on this machine
    steps: tuple[str, ...] = ()  # the same of the run alone, and of each program after it


def expand(study: Study, path: Path, origins: dict[Place, str]) -> list[Cell]:
    """Every cell, seed by seed, so that the first seed's table is whole early. UserError names the place of a fault."""
    cells = []
    for name in study.groups or {study.name: None}:
        place: Place = ("groups", name) if study.groups else ()
        cells += _of_group(study, study.groups.get(name, study), name, place, path, origins)
    order = {seed: n for n, seed in enumerate(dict.fromkeys(cell.dims["seed"] for cell in cells))}
    cells.sort(key=lambda cell: order[cell.dims["seed"]])
    names = [cell.name for cell in cells]
    if twice := next((cell for cell in cells if names.count(cell.name) > 1), None):
        raise UserError(f"{twice.place}: two cells would be called {twice.name}; give their values other names")
    _check_report(study, cells, path, origins)
    return cells


def _of_group(study: Study, group: Group, name: str, place: Place, path: Path, origins: dict[Place, str]) -> list[Cell]:
    def origin(*keys: Any) -> str:
        """Where a key stands: in the group, else on top."""
        places = [(*place, *keys), keys]
        return next((origins[one] for one in places if one in origins), origins.get(place, str(path)))

    arms = group.arms or ({} if group.recipe else study.arms)
    if not arms:
        recipe = group.recipe or study.recipe
        if not recipe:
            raise UserError(f"{origin()}: {name}: which recipe? Give `recipe: RECIPE` or `arms: {{NAME: RECIPE}}`")
        alone = re.sub(r"[^\w.+-]", "-", Path(recipe).stem)
    if not (seeds := group.seeds or study.seeds):
        raise UserError(f"{origin()}: {name}: which seeds? `seeds: [0, 1, 2]` gives every cell three runs")
    matrix = study.matrix | group.matrix
    cells = []
    for seed, arm in itertools.product(seeds, arms or [alone]):
        recipe = arms[arm].recipe if arms else recipe
        where = origin("arms", arm) if arms else origin("recipe")
        file = _recipe(recipe, path, where)
        for values in itertools.product(*matrix.values()):
            chosen = dict(zip(matrix, values, strict=True))
            edits = {key: (value, origins.get(("edits", key), "")) for key, value in study.edits.items()}
            edits |= {key: (value, origin("edits", key)) for key, value in group.edits.items()}
            if arms:
                edits |= {key: (value, origin("arms", arm, "edits", key)) for key, value in arms[arm].edits.items()}
            for axis, value in chosen.items():
                edits |= {key: (v, origin("matrix", axis)) for key, v in matrix[axis][value].items()}
            edits["seed"] = (seed, origin("seeds"))
            words = {word(key, value): line for key, (value, line) in edits.items()}
            steps = [arm, *(f"{axis}={value}" for axis, value in chosen.items()), f"seed={seed}"]
            after = tuple(group.after or study.after)
            asked, *made = _asked(file, words, [after, (), *((program,) for program in after)])
            cells.append(
                Cell(
                    name=f"{name}/{re.sub(r'[^A-Za-z0-9_.+=-]', '-', '_'.join(steps))}",
                    dims={"group": name, "arm": arm, **chosen, "seed": str(seed)},
                    recipe=file,
                    words=tuple(words),
                    after=after,
                    place=where,
                    origins=words,
                    asked=asked,
                    steps=tuple(made),
                )
            )
    return cells


def word(key: str, value: Any) -> str:
    """An edit as the command line takes it."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value)
    plain = plain and value.lower() not in ("true", "false", "null")
    return f"{key}={value if plain else json.dumps(value, ensure_ascii=False)}"


def _recipe(name: str, path: Path, origin: str) -> Path:
    """The file of a recipe that a study names: relative to the study, else shipped."""
    beside = path.parent / name
    try:
        return find(beside if beside.is_file() else name)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None


def _asked(recipe: Path, words: dict[str, str], programs: list[tuple[str, ...]]) -> list[str]:
    """sha256 of the recipe with its edits and each of these lists of programs after it."""
    tree, origins = load(recipe)
    try:
        apply(tree, origins, list(words))
    except UserError as error:
        raise UserError(located(str(error), words)) from None
    if isinstance(tree.get("data"), dict):
        tree["data"].pop("root", None)
    texts = [json.dumps({"recipe": tree, "after": after}, sort_keys=True) for after in programs]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def located(message: str, words: dict[str, str]) -> str:
    """A recipe's complaint about the command line, where the study is what said it."""
    for one, origin in sorted(words.items(), key=lambda item: -len(item[0])):
        message = message.replace(f"command line: {one}:", f"{origin}: {one}:")
        message = message.replace(f"command line: {one.partition('=')[0]}:", f"{origin}: {one}:")
    return message


def _check_report(study: Study, cells: list[Cell], path: Path, origins: dict[Place, str]) -> None:
    """UserError for a dimension or a value that no cell has."""
    values: dict[str, dict[str, None]] = {}
    for cell in cells:
        for dim, value in cell.dims.items():
            values.setdefault(dim, {})[value] = None
    known = [*OF_CELLS, *(dim for dim in values if dim not in OF_CELLS), *OF_SCORES]
    faults = []

    def check(item: Any, place: Place) -> None:
        for key, given in item:
            here = (*place, key)
            if key in ("where", "x", "y", "less", "than"):
                for dim, wanted in given.items():
                    _known(dim, (*here, dim), facts=True)
                    for one in wanted if isinstance(wanted, list) else [wanted]:
                        if dim in values and label(one) not in values[dim]:
                            fault((*here, dim), f"no cell has {dim} {label(one)}", label(one), values[dim])
            elif key in ("rows", "columns", "compare", "each", "points"):
                for n, dim in enumerate(given or []):
                    _known(dim, (*here, n), facts=key == "each")

    def _known(dim: str, place: Place, facts: bool) -> None:
        if dim not in known and not (facts and "." in dim):
            fault(place, f"no dimension is called {dim}", dim, known)

    def fault(place: Place, text: str, given: str, names: Any) -> None:
        around = [place[:n] for n in range(len(place), -1, -1)]
        origin = next((origins[one] for one in around if one in origins), str(path))
        faults.append(
            f"{origin}: {'.'.join(map(str, place))}: {text}{suggestion(given, names)} (there are: {', '.join(names)})"
        )

    for kind in ("claims", "tables", "scatters", "pictures"):
        for n, item in enumerate(getattr(study, kind)):
            check(item, (kind, n))
    if faults:
        raise UserError("\n".join(faults))
