"""The scores of a run: samplers fitted, images made and scored, panels and report drawn, metrics.json written."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from genzoo.data.store import Split
from genzoo.errors import UserError
from genzoo.evaluation.drawing import write_panels
from genzoo.evaluation.evaluate import evaluate
from genzoo.evaluation.generate import fit_samplers, fit_split
from genzoo.evaluation.work import Work
from genzoo.fitted import load_sampler, save_sampler
from genzoo.launch import Launch, launched
from genzoo.loading import loaded
from genzoo.model import Model
from genzoo.preparation import Parts, build_parts, prepare_splits
from genzoo.progress import shown
from genzoo.recipe import Recipe
from genzoo.run_folder import RunFolder


def evaluate_run(folder: str | Path, overrides: tuple[str, ...] = (), plugins: Sequence[str] = ()) -> dict | None:
    """Score a finished or interrupted run (its newest checkpoint) again and rewrite its metrics.json.

    plugins: files to be executed for it (genzoo.plugin_files).

    Where the overrides change what is scored, the scores before stay in metrics-1.json, metrics-2.json, ...

    Of several processes (`torchrun`, `accelerate launch`), which share the images, all but the main one return None.
    """
    run = RunFolder(folder)
    for word in overrides:
        if not word.startswith(("evaluation.", "samplers", "data.root")):
            raise UserError(f"{word}: a trained run can only change evaluation.*, samplers.* and data.root")
    launch = launched()
    with launch.ends_as_one():
        recipe = run.recipe(overrides, plugins)
        if not os.access(run.path, os.W_OK):
            raise UserError(f"{run} cannot be written; score a copy of it")
        run.refuse_strange_files()
        parts = build_parts(recipe)
        with launch.first("prepared"):
            splits = prepare_splits(parts, recipe)
        with run.locked() if launch.is_main else nullcontext():
            model, step = loaded(run, recipe, launch.device)
            metrics = score(model, recipe, parts, splits, run, run.trained(step), step, launch)
            if launch.is_main:  # only now: what could not be scored has not been changed
                run.write_recipe(recipe)
            return metrics


def score(
    model: Model,
    recipe: Recipe,
    parts: Parts,
    splits: dict[str, Split],
    folder: RunFolder,
    train: dict[str, Any],
    step: int,
    launch: Launch,
) -> dict | None:
    """Fit the samplers that are not fitted yet, evaluate, draw, and write metrics.json.

    train: its section; step: of the checkpoint that is scored.
    """
    device = next(model.parameters()).device
    images = {name: split.images for name, split in splits.items()}
    seed = recipe.evaluation_seed
    samplers = parts.samplers
    with shown() as report:
        with launch.first("fitted"):  # the others find what the main process has learned
            data = {name: splits[fit_split(one)].sha256 for name, one in samplers.items() if one.needs_fit}
            known = [name for name in data if load_sampler(folder.path, recipe, name, samplers[name], data[name])]
            unfitted = {name: samplers[name] for name in data if name not in known}
            alone = Work(device, recipe.evaluation.batch_size, report)
            skipped = fit_samplers(model, unfitted, images, seed=seed, work=alone)
            ready = {name: sampler for name, sampler in samplers.items() if name not in skipped}
            if launch.is_main:
                for name in unfitted.keys() - skipped.keys():
                    save_sampler(folder.path, recipe, name, unfitted[name], data[name])
                write_panels(model, ready, images[recipe.evaluation.reference], folder.path / "panels", seed=seed,
                             device=device)  # fmt: skip
        together = replace(alone, processes=launch)
        made = evaluate(model, samplers, images, recipe.evaluation, seed=seed, work=together, skipped=skipped)
    if not launch.is_main:
        return None
    made["protocol"]["checkpoint_step"] = step
    made["protocol"]["samplers"] = {one.name: one.model_dump(mode="json", exclude={"name"}) for one in recipe.samplers}
    metrics = {"name": recipe.name, **made, "train": train}
    folder.keep_scores(recipe)
    folder.write_metrics(metrics)
    if recipe.report:
        from genzoo.reports.pictures import draw
        from genzoo.reports.report import report

        shown_split = recipe.evaluation.reference
        report(folder.path, lambda: draw(model, ready, images[shown_split], shown_split, seed=seed, device=device))
    return metrics
