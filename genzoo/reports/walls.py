"""Walls of images of runs on disk: the model, its fitted samplers and its data are loaded for them."""

from collections.abc import Sequence
from pathlib import Path

from genzoo.errors import UserError
from genzoo.fitted import fitted_samplers
from genzoo.loading import loaded
from genzoo.preparation import build_used, prepare_splits
from genzoo.reports.pictures import Wall, beside, draw
from genzoo.run_folder import RunFolder


def walls(folder: str | Path, plugins: Sequence[str] = ()) -> list[Wall]:
    """Walls of images for the pages of a run: what its newest checkpoint makes, with the samplers that are fitted.

    plugins: as `load` takes them.
    """
    run = RunFolder(folder)
    recipe = run.recipe(plugins=plugins)
    parts = build_used(recipe)
    model, _ = loaded(run, recipe)
    split = recipe.evaluation.reference
    images, device = prepare_splits(parts, recipe)[split].images, next(model.parameters()).device
    samplers = fitted_samplers(run.path, recipe, parts.samplers)
    return draw(model, samplers, images, split, seed=recipe.evaluation_seed, device=device)


def walls_beside(folders: dict[str, Path], plugins: Sequence[str] = ()) -> tuple[list[Wall], list[str]]:
    """Walls with a row for each of several runs, by name; and of those that cannot be shown so, the reason.

    plugins: as `load` takes them.
    """
    models, samplers, notes, common = {}, {}, [], None
    for name, folder in folders.items():
        try:
            run = RunFolder(folder)
            recipe = run.recipe(plugins=plugins)
            parts = build_used(recipe)
            model, _ = loaded(run, recipe)
            split = prepare_splits(parts, recipe)[recipe.evaluation.reference]
        except UserError as error:
            notes.append(f"{name} is not among the pictures: {error}")
            continue
        common = common or (split, recipe.evaluation.reference, recipe.evaluation_seed, name)
        if split.sha256 != common[0].sha256:
            notes.append(f"{name} is not among the pictures: its images are not those of {common[3]}")
            continue
        models[name] = model
        samplers[name] = fitted_samplers(run.path, recipe, parts.samplers)
    if not models:
        return [], notes
    return beside(models, samplers, common[0].images, common[1], seed=common[2]), notes
