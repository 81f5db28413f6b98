"""The recipe: one frozen tree that is the whole run, read from YAML and `KEY=VALUE` words."""

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from genzoo.config import Config, Strict, part
from genzoo.edits import apply, lost
from genzoo.errors import UserError
from genzoo.evaluation.config import EvaluationConfig
from genzoo.model import ModelConfig
from genzoo.recipe_file import COMMAND_LINE, Place, dump, explain_all, find, load, parse
from genzoo.registry import DATASETS, OBJECTIVES, SAMPLERS, TERMS
from genzoo.training.config import TrainConfig

log = logging.getLogger("genzoo")


class Recipe(Strict):
    """Everything a run depends on. `genzoo show RECIPE` prints it complete, defaults included."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100, description="names the run's folder")
    seed: int = Field(0, ge=0, lt=2**32, description="of everything random: weights, data order, samples")
    plugins: list[str] = Field([], description="Python files or folders that register parts, relative to the recipe")
    data: part(DATASETS) = "digits"
    model: ModelConfig = ModelConfig()
    objective: part(OBJECTIVES) = "elbo"
    terms: list[part(TERMS)] = Field([], description="what is charged beside the objective, each with its weight")
    train: TrainConfig = TrainConfig()
    samplers: list[part(SAMPLERS)] = ["prior"]
    evaluation: EvaluationConfig = EvaluationConfig()
    report: bool = Field(True, description="write report.html into the run folder when the scores are made")

    @property
    def evaluation_seed(self) -> int:
        return self.seed if self.evaluation.seed is None else self.evaluation.seed

    @field_validator("samplers", "terms")
    @classmethod
    def _distinct(cls, parts: list[Config], info: ValidationInfo) -> list[Config]:
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            raise ValueError(f"every {info.field_name[:-1]} once: their names tell the scores apart")
        return parts

    def to_yaml(self) -> str:
        return dump(self.model_dump(mode="json"))


def read(
    source: str | Path,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    *,
    execute: bool = False,
    text: str | None = None,
) -> Recipe:
    """Parse a recipe file (or the name of a shipped one), with `KEY=VALUE` edits made before it is checked.

    plugins: files to be executed, in the place of those of the same names in the recipe. The recipe's own are executed
    with `execute`, or where a run of this user's has executed them before (genzoo.plugin_files). text: what the file
    held, where it is gone. UserError lists every mistake with its file and line, or the command-line word it came from.
    """
    path = find(source) if text is None else Path(source)
    tree, origins = load(path) if text is None else parse(text, str(path))
    dropped = apply(tree, origins, overrides)
    passed_over: list[str] = []
    listed = tree.get("plugins") or []
    if isinstance(listed, list) and all(isinstance(plugin, str) for plugin in listed):
        given = [str(Path(plugin).resolve()) for plugin in plugins]
        replaced = {Path(plugin).name: plugin for plugin in given}
        named = [str((path.parent / plugin).resolve()) for plugin in listed]  # found from anywhere
        named = [replaced.get(Path(plugin).name, plugin) for plugin in named]
        tree["plugins"] = list(dict.fromkeys([*named, *given]))
        if tree["plugins"]:
            from genzoo.plugin_files import load_named

            passed_over = load_named(path, tree["plugins"], given, execute)
    made: dict = {}
    try:
        recipe = Recipe.model_validate(tree)
        made = recipe.model_dump(mode="json") if dropped else {}
    except ValidationError as error:
        raise UserError("\n".join([explain_all(error, origins, path), *passed_over])) from None
    finally:
        for sentence in lost(dropped, made):
            log.info(sentence)
    if not {"data", "model"} & tree.keys():
        log.info("%s names neither data nor a model: the defaults are taken, data %s and a model of %s and %s (`genzoo "
                 "show %s` prints them all)", path, recipe.data.name, recipe.model.encoder.name, recipe.model.head.name,
                 shlex.quote(str(source)))  # fmt: skip
    passed_over += _found_beside(path, tree, origins)
    for sentence in passed_over:
        log.warning(sentence)
    return recipe


def _found_beside(recipe: Path, tree: dict, origins: dict[Place, str]) -> list[str]:
    """A sentence where the file's `data.root` is not found from the working directory, but from the recipe's folder."""
    data = tree.get("data")
    root = data.get("root") if isinstance(data, dict) else None
    if not isinstance(root, str) or os.path.exists(os.path.expanduser(root)) or ("data", "root") not in origins:
        return []
    beside, origin = recipe.absolute().parent / root, origins["data", "root"]
    if origin.startswith(COMMAND_LINE) or not os.path.exists(beside):
        return []
    where = f"looked for from the working directory, {Path.cwd()}, and is not there"
    return [f"{origin}: data.root: {root} is {where}; beside the recipe it is: data.root={shlex.quote(str(beside))}"]
