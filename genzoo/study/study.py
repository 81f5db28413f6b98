"""The study file: which cells there are and what is reported of them. Imports no torch."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, field_validator

from genzoo.config import Strict, located
from genzoo.errors import UserError, suggestion
from genzoo.recipe_file import Place, explain_all, load

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=60)]
Text = Annotated[str, StringConstraints(min_length=1)]
Filter = dict[str, Any]  # dimension, or a fact such as branches.kind -> the value, or a list of those that pass
OF_SCORES = ("metric", "features", "generator", "part")
OF_CELLS = ("group", "arm", "seed")


class Arm(Strict):
    """A recipe with edits of its own, under a name."""

    recipe: Text = Field(description="a recipe file, relative to the study, or the name of a shipped recipe")
    edits: dict[str, Any] = Field({}, description="KEY: VALUE edits of the recipe")


class Group(Strict):
    """Cells: every arm with every combination of the matrix, with every seed."""

    recipe: Text | None = Field(None, description="the recipe of all cells, where there are no arms")
    arms: dict[Label, Arm] = Field({}, description="NAME: RECIPE, or NAME: {recipe, edits}")
    edits: dict[str, Any] = Field({}, description="KEY: VALUE edits of every cell's recipe")
    matrix: dict[str, dict[Text, dict[str, Any]]] = Field(
        {}, description="axes: KEY: [values] of a recipe, or AXIS: {NAME: {KEY: VALUE, ...}, ...}"
    )
    seeds: list[int] = Field([], description="every cell once with each")
    after: list[Text] = Field(
        [], description="Python programs, relative to the study, that score more of a finished run: FILE [OPTIONS]"
    )

    @field_validator("arms", mode="before")
    @classmethod
    def _short_form(cls, arms: Any) -> Any:
        if not isinstance(arms, dict):
            raise ValueError("expected NAME: RECIPE, or NAME: {recipe, edits}")
        return {name: {"recipe": arm} if isinstance(arm, str) else arm for name, arm in arms.items()}

    @field_validator("matrix", mode="before")
    @classmethod
    def _named(cls, matrix: Any) -> Any:
        """Lists become what they are short for: the value's text -> {KEY: value}."""
        form = "expected KEY: [values], or AXIS: {NAME: {KEY: VALUE, ...}, ...}"
        if not isinstance(matrix, dict):
            raise ValueError(form)
        axes, faults = {}, []
        for axis, values in matrix.items():
            if axis in (*OF_CELLS, *OF_SCORES):
                faults.append((axis, "no axis can have this name: tables use it for something else", None))
            elif not isinstance(values, list | dict) or not values:
                faults.append((axis, form, None))
            elif isinstance(values, dict):
                axes[axis] = values
            elif any(isinstance(value, dict | list) for value in values):
                faults.append((axis, f"trees need names for the tables: {{NAME: {{{axis}: VALUE}}, ...}}", None))
            elif len({label(value) for value in values}) < len(values):
                faults.append((axis, "every value once", None))
            else:
                axes[axis] = {label(value): {axis: value} for value in values}
        if faults:
            raise located(cls, faults)
        return axes

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("every seed once")
        return seeds


class Table(Strict):
    """Means over seeds, or rates, by two sets of dimensions."""

    title: Text
    where: Filter = Field({}, description="which cells and scores; a dimension that is not named passes whole")
    rows: list[str] = Field(min_length=1, description="dimensions: group, arm, an axis, generator, part, metric")
    columns: list[str] = ["metric"]
    compare: list[str] | None = Field(
        None, description="values that differ in these alone compete for bold; null: all but group, metric, generator"
    )
    note: str = Field("", description="a paragraph under the table")
    figure: bool = Field(False, description="draw the values with their intervals, too")


class Scatter(Strict):
    """A figure of two measures, a point for each set of cells that differ in their seed alone."""

    title: Text
    where: Filter = {}
    x: Filter
    y: Filter
    points: list[str] = Field(min_length=1, description="dimensions that name a point")


class Claim(Strict):
    """A statement that one measure is less than another, decided by the interval of their difference."""

    says: Text
    where: Filter = {}
    less: Filter
    than: Filter
    each: list[str] = Field([], description="dimensions: a verdict of its own for each value")
    answers: str = Field("", description="a question, which the head of the page answers by the verdicts")


class Pictures(Strict):
    """A picture of one run for each value of `each`."""

    title: Text
    file: Text = Field(description="in the run folder, such as panels/reconstruction.png")
    where: Filter = {}
    each: list[str] = ["group"]


class Study(Group):
    """The whole file. What stands on top holds for every group; a group adds edits and axes, and replaces the rest."""

    name: Label
    title: str = ""
    about: str = Field("", description="paragraphs on top of the page")
    plugins: list[Text] = Field([], description="Python files that register parts, relative to the study")
    groups: dict[Label, Group] = {}
    facts: str | None = Field(None, description="folder of the cells' facts, relative to the study [facts/NAME]")
    pages: list[Text] = Field([], description="files that `--table` writes or completes, beside the study [NAME.md]")
    tolerance: float = Field(0.05, ge=0, description="how far, relatively, a repeated cell's scores may lie")
    claims: list[Claim] = []
    tables: list[Table] = []
    scatters: list[Scatter] = []
    pictures: list[Pictures] = []


def label(value: Any) -> str:
    """What tables and file names call a value: as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value)


def read(source: str | Path) -> tuple[Study, Path, dict[Place, str]]:
    """A study, its file, and "file:line" of every place in it. UserError lists every mistake with its place."""
    path = Path(source)
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise UserError(f"no study file '{source}'{suggestion(path.name, beside)}")
    tree, origins = load(path, "a study is a mapping of name, seeds, groups, tables, ...")
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain_all(error, origins, path, "the study")) from None
    return study, path, origins


def facts_folder(study: Study, path: Path) -> Path:
    return path.parent / (study.facts or f"facts/{study.name}")
