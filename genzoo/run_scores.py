"""The scores of a run: samplers fitted, images made and scored, panels and report drawn, metrics.json written."""

import logging
import os
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from genzoo.config import build
from genzoo.data.store import Split
from genzoo.errors import UserError, reason
from genzoo.evaluation.drawing import write_panels
from genzoo.evaluation.evaluate import evaluate
from genzoo.evaluation.scorer import model_metrics
from genzoo.evaluation.work import Work
from genzoo.fitted import Kept
from genzoo.launch import Launch, launched
from genzoo.model import Model
from genzoo.preparation import Parts, build_used, prepare_splits
from genzoo.progress import shown
from genzoo.recipe import Recipe
from genzoo.registry import OBJECTIVES
from genzoo.run_folder import RunFolder
from genzoo.stage_two import fit_samplers

log = logging.getLogger("genzoo")


def evaluate_run(folder: str | Path, overrides: tuple[str, ...] = (), plugins: Sequence[str] = ()) -> dict | None:
    """Score a finished or interrupted run (its newest checkpoint) again and rewrite its metrics.json.

    plugins: files to be executed for it (genzoo.plugin_files).

    Where the overrides change what is scored, the scores before stay in metrics-1.json, metrics-2.json, ...

    Of several processes (`torchrun`, `accelerate launch`), which share the images, all but the main one return None.
    """
    from genzoo.loading import loaded

    run = RunFolder(folder)
    for word in overrides:
        if not word.startswith(("evaluation.", "samplers", "data.root")):
            raise UserError(f"{word}: a trained run can only change evaluation.*, samplers.* and data.root")
    launch = launched()
    again = shlex.join(["genzoo", "eval", str(run), *overrides])
    with launch.ends_as_one():
        recipe = run.recipe(overrides, plugins)
        if not os.access(run.path, os.W_OK):
            raise UserError(f"{run} cannot be written; score a copy of it")
        run.refuse_strange_files()
        parts = build_used(recipe)
        if model_metrics(recipe.evaluation.metrics):  # which may ask what was charged
            parts.objective = build(OBJECTIVES, recipe.objective, image_shape=parts.dataset.image_shape)
        with launch.first("prepared"):
            splits = prepare_splits(parts, recipe)
        with run.locked() if launch.is_main else nullcontext():
            model, step = loaded(run, recipe, launch.device, parts.objective)
            metrics = score(model, recipe, parts, splits, run, run.trained(step), step, launch, again)
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
    again: str,
) -> dict | None:
    """Fit the samplers that are not fitted yet, evaluate, draw, and write metrics.json.

    train: its section; step: of the checkpoint that is scored; again: the command that goes on after an interruption.
    """
    device = next(model.parameters()).device
    images = {name: split.images for name, split in splits.items()}
    seed, samplers = recipe.evaluation_seed, parts.samplers
    kept = Kept(folder.path, recipe, {name: split.sha256 for name, split in splits.items()}, again)
    together = Work(device, recipe.evaluation.batch_size, processes=launch)
    skipped = fit_samplers(model, samplers, images, seed=seed, work=together, kept=kept)
    ready = {name: sampler for name, sampler in samplers.items() if name not in skipped}
    with launch.first("drawn"):
        if launch.is_main:
            try:
                write_panels(model, ready, images[recipe.evaluation.reference], folder.path / "panels", seed=seed,
                             device=device)  # fmt: skip
            except Exception as error:  # whatever a part does with it: the scores do not wait for pictures
                log.warning("%s: not all pictures are drawn: %s", folder.path / "panels", reason(error))
    with shown() as report:
        together = replace(together, progress=report)
        made = evaluate(
            model, samplers, images, recipe.evaluation, seed=seed, work=together, skipped=skipped,
            objective=parts.objective if parts.objective is None else parts.objective.to(device).eval(),
        )  # fmt: skip
    if not launch.is_main:
        return None
    made["protocol"]["checkpoint_step"] = step
    made["protocol"]["samplers"] = {one.name: one.model_dump(mode="json", exclude={"name"}) for one in recipe.samplers}
    metrics = {"name": recipe.name, **made, "train": train}
    folder.keep_scores(recipe)
    folder.write_metrics(metrics)
    if recipe.report:
        from genzoo.reports.pictures import draw
        from genzoo.reports.report import report as write_report

        shown_split = recipe.evaluation.reference
        reference = images[shown_split]
        write_report(folder.path, lambda: draw(model, ready, reference, shown_split, seed=seed, device=device))
    return metrics
