"""A run from recipe to numbers: check, prepare, train, sample, score, draw. Results live in the run folder alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genzoo import pretrained
from genzoo.config import build
from genzoo.data.store import Split, prepare
from genzoo.errors import UserError
from genzoo.files import check_writable
from genzoo.model import Model
from genzoo.parts import Dataset, Sampler
from genzoo.plugins import used
from genzoo.progress import shown
from genzoo.recipe import Recipe
from genzoo.registry import DATASETS, OBJECTIVES, SAMPLERS, TERMS
from genzoo.run_folder import RunFolder
from genzoo.tracing import refuse_misfits, trace

if TYPE_CHECKING:
    from genzoo.explore.session import Session
    from genzoo.launch import Launch
    from genzoo.reports.pictures import Wall

log = logging.getLogger("genzoo")


@dataclass
class Parts:
    """A recipe whose parts have been built and found to fit, before any data is read."""

    dataset: Dataset
    objective: torch.nn.Module
    terms: dict[str, torch.nn.Module]
    samplers: dict[str, Sampler]


def build_parts(recipe: Recipe) -> Parts:
    """Build every part at the dataset's image size (the model on the meta device). UserError names one that fails.

    Random first weights, such as a critic's, are those of the recipe's seed.
    """
    from genzoo.evaluation.scorer import make_metric

    dataset = build(DATASETS, recipe.data)
    shape = dataset.image_shape
    num = recipe.train.batch_size // recipe.train.grad_accumulation
    traced = trace(recipe.model, shape, max(1, min(2, num)))
    torch.manual_seed(recipe.seed)
    objective = build(OBJECTIVES, recipe.objective, image_shape=shape)
    terms = {config.name: build(TERMS, config, image_shape=shape) for config in recipe.terms}
    users = {f"objectives/{recipe.objective.name}": objective}
    users |= {f"terms/{name}": term for name, term in terms.items()}
    users |= {f"samplers/{config.name}": SAMPLERS.get(config.name) for config in recipe.samplers}
    refuse_misfits(users, traced.offers, recipe.model, shape)
    samplers = {config.name: build(SAMPLERS, config, latent_shape=traced.latent_shape) for config in recipe.samplers}
    refuse_misfits({f"samplers/{k}": v for k, v in samplers.items()}, traced.offers, recipe.model, shape)
    for metric in recipe.evaluation.metrics:
        make_metric(metric)
    return Parts(dataset, objective, terms, samplers)


def run(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    profile: bool = False,
    command: list[str] | None = None,
) -> dict | None:
    """Do the whole run and return what metrics.json holds.

    out: the run folder, `runs/<name>` by default; it must be new unless `resume`. profile: record where the time of
    some steps goes, in `profile/`. UserError before the first step for everything that can be known then.
    Of several processes (`torchrun`, `accelerate launch`) all train and make the images that are scored, while the
    main one prepares, fits and writes; the others return None.
    """
    from genzoo.launch import launched

    launch = launched()
    with launch.ends_as_one():
        return _run(recipe, RunFolder(out or default_folder(recipe)), resume, profile, command, launch)


def _run(
    recipe: Recipe, folder: RunFolder, resume: bool, profile: bool, command: list[str] | None, launch: Launch
) -> dict | None:
    from genzoo.evaluation.drawing import panel
    from genzoo.evaluation.extractor import missing
    from genzoo.evaluation.images import read
    from genzoo.training.preflight import planned_checkpoint_bytes, refuse_settings
    from genzoo.training.step import Step
    from genzoo.training.trainer import train

    parts = build_parts(recipe)
    refuse_settings(recipe.train)
    begins = not resume or folder.step() is None
    with launch.first("prepared"):
        if launch.is_main:
            folder.refuse_other_run(recipe, resume)
            for place in [place for place, owner in used(recipe).items() if owner == "__main__"]:
                log.warning("%s is registered in a notebook or script: only there can this run be loaded again", place)
            if begins:
                pretrained.fetch([recipe.model, recipe.objective, *recipe.terms])
            for metric, reason in missing(recipe.evaluation):
                log.warning("%s will be skipped (`genzoo eval %s` adds it later): %s", metric, folder, reason)
        splits = prepare_splits(parts, recipe)
    torch.manual_seed(recipe.seed)
    model = Model(recipe.model, parts.dataset.image_shape)
    trained = [model, parts.objective, *parts.terms.values()]
    if begins:
        for module in trained:
            pretrained.load(module)
    folder.refuse_small_disk(planned_checkpoint_bytes(trained, recipe.train))

    with folder.locked() if launch.is_main else nullcontext(), folder.said_how_to_go_on():
        if launch.is_main:
            folder.refuse_other_run(recipe, resume)  # again: another process may have had it meanwhile
            if resume:
                folder.refuse_other_data(splits["train"])
                folder.say_from_where()
            if (folder.path / "recipe.yaml").is_file():
                folder.keep_scores(recipe)
            folder.write_recipe(recipe)
            folder.write_lock(recipe, splits, command, launch.num, resume)
        x = read(splits[recipe.evaluation.reference].images, slice(12)).float() / 255

        @torch.no_grad()
        def draw(model: Model, step: int) -> dict[str, Path]:
            device = next(model.parameters()).device
            files = {
                kind: folder.path / "panels" / f"step-{step:08d}_{kind}.png" for kind in ("reconstruction", "sample")
            }
            panel(model.decode(model.encode(x.to(device)).mean), files["reconstruction"], x=x)
            if model.has_prior:
                z = model.sample_prior(len(x), torch.Generator().manual_seed(recipe.seed))
                panel(model.decode(z.to(device)), files["sample"])
            return {kind: file for kind, file in files.items() if file.exists()}

        images = splits["train"].images
        step = Step(
            model, parts.objective, parts.terms, channels_last=recipe.train.channels_last,
            activation_checkpointing=recipe.train.activation_checkpointing,
        )  # fmt: skip
        summary = train(
            step, images, recipe.train, folder=folder.path, seed=recipe.seed, resume=resume, panel=draw,
            profile=profile, metadata={"recipe": recipe.to_yaml()},
        )  # fmt: skip
        if launch.is_main:  # what training cost is known now, whatever becomes of the scores
            made = folder.metrics()  # of a run that had ended, scores that still hold
            kept = made if made.get("train", {}).get("steps") == summary["steps"] else {"name": recipe.name}
            folder.write_metrics({**kept, "train": summary})
        return _score(model, recipe, parts, splits, folder, summary, summary["steps"], launch)


def default_folder(recipe: Recipe) -> Path:
    return Path("runs") / recipe.name


def evaluate_run(folder: str | Path, overrides: tuple[str, ...] = (), plugins: Sequence[str] = ()) -> dict | None:
    """Score a finished or interrupted run (its newest checkpoint) again and rewrite its metrics.json.

    plugins: files to be executed for it (genzoo.plugin_files).

    Where the overrides change what is scored, the scores before stay in metrics-1.json, metrics-2.json, ...

    Of several processes (`torchrun`, `accelerate launch`), which share the images, all but the main one return None.
    """
    from genzoo.launch import launched

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
            model, step = _loaded(run, recipe, launch.device)
            metrics = _score(model, recipe, parts, splits, run, run.trained(step), step, launch)
            if launch.is_main:  # only now: what could not be scored has not been changed
                run.write_recipe(recipe)
            return metrics


def sample(
    folder: str | Path,
    num: int,
    out: str | Path,
    *,
    sampler: str | None = None,
    part: str = "y",
    seed: int = 0,
    plugins: Sequence[str] = (),
) -> None:
    """Write `num` samples of a run as PNG files; see `drawn`."""
    from genzoo.evaluation.drawing import save_png_samples

    check_writable(out := Path(out))
    save_png_samples(drawn(folder, num, sampler=sampler, part=part, seed=seed, plugins=plugins)[0], out)


def drawn(
    folder: str | Path,
    num: int,
    *,
    sampler: str | None = None,
    part: str = "y",
    seed: int = 0,
    plugins: Sequence[str] = (),
) -> tuple[Iterator[torch.Tensor], dict]:
    """Batches b c h w in [0, 1] from one of the run's fitted samplers (its first by default).

    And what a score must say of these images: the sampler, what it was fitted on, the checkpoint. part: y, or a branch
    or map by name. With the run's seed these are the images that its scores are about. plugins: as `load` takes them.
    """
    from genzoo.evaluation.generate import protocol_of, samples
    from genzoo.evaluation.work import Work

    run = RunFolder(folder)
    recipe = run.recipe(plugins=plugins)
    recipe = run.with_sampler(recipe, sampler) if sampler else recipe
    samplers = build_parts(recipe).samplers
    name = sampler or next(iter(samplers))
    if name not in samplers:
        raise UserError(f"run {folder} has no sampler '{name}' (its recipe names: {', '.join(samplers)})")
    if samplers[name].needs_fit and not run.load_sampler(recipe, name, samplers[name]):
        raise UserError(f"sampler '{name}' of {folder} has not been fitted yet: `genzoo eval {folder}` does it")
    model, step = _loaded(run, recipe)
    origin = {"sampler_name": name, "part": part, "checkpoint_step": step, **protocol_of(samplers[name])}
    if (split := origin["fit_split"]) not in (None, "train"):
        origin["note"] = f"the sampler was fitted on the run's split '{split}', which flatters it against those images"
    device = next(model.parameters()).device
    return samples(model, samplers[name], num, seed=seed, part=part, work=Work(device, batch_size=100)), origin


def load(folder: str | Path, device: str | torch.device | None = None, plugins: Sequence[str] = ()) -> Model:
    """The trained model of a run folder, in eval mode: `genzoo.load("runs/svae_digits")`.

    The weights are the newest checkpoint's (their moving average where the recipe has `train.ema`). device: by default
    the GPU where there is one. plugins: files that register parts of it, to be executed. Those that a run of yours has
    executed before need not be named; any other file is not executed, and UserError says which.
    """
    run = RunFolder(folder)
    return _loaded(run, run.recipe(plugins=plugins), device)[0]


def _loaded(run: RunFolder, recipe: Recipe, device: str | torch.device | None = None) -> tuple[Model, int]:
    """The model, and the step of the checkpoint that it is."""
    from genzoo.training.checkpoint import load_model

    model = Model(recipe.model, build(DATASETS, recipe.data).image_shape)
    step = load_model(run.path, model)
    if recipe.train.channels_last:  # as it was trained: another layout rounds otherwise
        model = model.to(memory_format=torch.channels_last)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), step


def walls(folder: str | Path, plugins: Sequence[str] = ()) -> list[Wall]:
    """Walls of images for the pages of a run: what its newest checkpoint makes, with the samplers that are fitted.

    plugins: as `load` takes them.
    """
    from genzoo.reports.pictures import draw

    run = RunFolder(folder)
    recipe = run.recipe(plugins=plugins)
    parts = build_parts(recipe)
    model, _ = _loaded(run, recipe)
    split = recipe.evaluation.reference
    images, device = prepare_splits(parts, recipe)[split].images, next(model.parameters()).device
    samplers = _fitted_samplers(run, recipe, parts)
    return draw(model, samplers, images, split, seed=recipe.evaluation_seed, device=device)


def session(folder: str | Path, plugins: Sequence[str] = ()) -> Session:
    """What the explorer needs of a run: its model, its fitted samplers, images of its reference split.

    plugins: as `load` takes them.
    """
    from genzoo.explore.session import Session

    run = RunFolder(folder)
    recipe = run.recipe(plugins=plugins)
    parts = build_parts(recipe)
    model, _ = _loaded(run, recipe)
    images = prepare_splits(parts, recipe)[recipe.evaluation.reference].images
    return Session(recipe.name, model, _fitted_samplers(run, recipe, parts), images)


def walls_beside(folders: dict[str, Path], plugins: Sequence[str] = ()) -> tuple[list[Wall], list[str]]:
    """Walls with a row for each of several runs, by name; and of those that cannot be shown so, the reason.

    plugins: as `load` takes them.
    """
    from genzoo.reports.pictures import beside

    models, samplers, notes, common = {}, {}, [], None
    for name, folder in folders.items():
        try:
            run = RunFolder(folder)
            recipe = run.recipe(plugins=plugins)
            parts = build_parts(recipe)
            model, _ = _loaded(run, recipe)
            split = prepare_splits(parts, recipe)[recipe.evaluation.reference]
        except UserError as error:
            notes.append(f"{name} is not among the pictures: {error}")
            continue
        common = common or (split, recipe.evaluation.reference, recipe.evaluation_seed, name)
        if split.sha256 != common[0].sha256:
            notes.append(f"{name} is not among the pictures: its images are not those of {common[3]}")
            continue
        models[name] = model
        samplers[name] = _fitted_samplers(run, recipe, parts)
    if not models:
        return [], notes
    return beside(models, samplers, common[0].images, common[1], seed=common[2]), notes


def _fitted_samplers(run: RunFolder, recipe: Recipe, parts: Parts) -> dict[str, Sampler]:
    """The samplers that need no fit, or have had it on the newest checkpoint."""
    return {
        name: one for name, one in parts.samplers.items() if not one.needs_fit or run.load_sampler(recipe, name, one)
    }


def prepare_splits(parts: Parts, recipe: Recipe) -> dict[str, Split]:
    """The dataset's prepared splits; UserError when one that the recipe needs is not among them."""
    from genzoo.evaluation.generate import fit_split

    dataset = parts.dataset
    wanted = {"train": "train", recipe.evaluation.reference: "evaluation.reference"}
    wanted |= {fit_split(one): f"samplers: {name}" for name, one in parts.samplers.items() if one.needs_fit}
    try:
        if not wanted.keys() <= set(dataset.splits):
            dataset.locate()  # a folder shows its splits when it is looked at
        for name, key in wanted.items():
            if name not in dataset.splits:
                known = ", ".join(dataset.splits)
                raise UserError(f"{key}: {recipe.data.name} has no split '{name}' (it has: {known})")
        with shown() as report:
            return prepare(dataset, recipe.data, report)
    except UserError as error:
        root = getattr(recipe.data, "root", None)
        if root is None or "://" in str(root) or not Path(root).is_absolute() or os.path.exists(root):
            raise
        raise UserError(f"{error}; data.root=PATH says where the data is, or has moved to") from error


def _score(
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
    from genzoo.evaluation.drawing import write_panels
    from genzoo.evaluation.evaluate import evaluate
    from genzoo.evaluation.generate import fit_samplers, fit_split
    from genzoo.evaluation.work import Work

    device = next(model.parameters()).device
    images = {name: split.images for name, split in splits.items()}
    seed = recipe.evaluation_seed
    samplers = parts.samplers
    with shown() as report:
        unfitted = {name: sampler for name, sampler in samplers.items() if sampler.needs_fit}
        with launch.first("fitted"):  # the others find what the main process has learned
            data = {name: splits[fit_split(one)].sha256 for name, one in unfitted.items()}
            unfitted = {
                name: one for name, one in unfitted.items() if not folder.load_sampler(recipe, name, one, data[name])
            }
            alone = Work(device, recipe.evaluation.batch_size, report)
            skipped = fit_samplers(model, unfitted, images, seed=seed, work=alone)
            if launch.is_main:
                for name in unfitted.keys() - skipped.keys():
                    folder.save_sampler(recipe, name, unfitted[name], data[name])
                ready = {name: sampler for name, sampler in samplers.items() if name not in skipped}
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

        fitted = {name: sampler for name, sampler in samplers.items() if name not in skipped}
        shown_split = recipe.evaluation.reference
        report(folder.path, lambda: draw(model, fitted, images[shown_split], shown_split, seed=seed, device=device))
    return metrics
