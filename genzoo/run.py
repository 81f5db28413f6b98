"""A run from recipe to numbers: check, prepare, train, sample, score, draw. Results live in the run folder alone."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genzoo import pretrained
from genzoo.config import build
from genzoo.data.store import Split, prepare
from genzoo.doctor import used
from genzoo.errors import UserError
from genzoo.files import check_writable
from genzoo.model import Model, trace
from genzoo.parts import Dataset, Sampler
from genzoo.progress import shown
from genzoo.recipe import Recipe
from genzoo.registry import DATASETS, OBJECTIVES, SAMPLERS
from genzoo.run_folder import (
    check_data,
    check_disk,
    check_folder,
    checkpoint_step,
    keep_plugins,
    load_sampler,
    lock_record,
    locked_run,
    read_lock,
    read_recipe,
    said_how_to_go_on,
    save_sampler,
    write,
    write_recipe,
)

if TYPE_CHECKING:
    from genzoo.launch import Launch
    from genzoo.reports.pictures import Wall

log = logging.getLogger("genzoo")


@dataclass
class Checked:
    """A recipe whose parts have been built and found to fit, before any data is read."""

    dataset: Dataset
    objective: torch.nn.Module
    samplers: dict[str, Sampler]


def check(recipe: Recipe) -> Checked:
    """Build every part at the dataset's image size (the model on the meta device). UserError names one that fails."""
    dataset = build(DATASETS, recipe.data)
    num = recipe.train.batch_size // recipe.train.grad_accumulation
    stages = trace(recipe.model, dataset.image_shape, max(1, min(2, num)))
    latent_shape = stages[f"latents/{recipe.model.latent.name}"]
    samplers = {config.name: build(SAMPLERS, config, latent_shape=latent_shape) for config in recipe.samplers}
    objective = build(OBJECTIVES, recipe.objective, image_shape=dataset.image_shape)
    return Checked(dataset, objective, samplers)


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
        return _run(recipe, Path(out or default_folder(recipe)), resume, profile, command, launch)


def _run(
    recipe: Recipe, folder: Path, resume: bool, profile: bool, command: list[str] | None, launch: Launch
) -> dict | None:
    from genzoo.evaluation.images import read
    from genzoo.evaluation.panels import panel
    from genzoo.evaluation.plan import missing
    from genzoo.training.trainer import check as check_training
    from genzoo.training.trainer import planned_checkpoint_bytes, train

    parts = check(recipe)
    check_training(recipe.train)
    begins = not resume or checkpoint_step(folder) is None
    with launch.first("prepared"):
        if launch.is_main:
            check_folder(folder, recipe, resume)
            for place in [place for place, owner in used(recipe).items() if owner == "__main__"]:
                log.warning("%s is registered in a notebook or script: only there can this run be loaded again", place)
            if begins:
                pretrained.fetch([recipe.model, recipe.objective])
            for metric, reason in missing(recipe.evaluation):
                log.warning("%s will be skipped (`genzoo eval %s` adds it later): %s", metric, folder, reason)
        splits = prepare_splits(parts, recipe)
        before = read_lock(folder) if resume else None
        if before:
            check_data(folder, before, splits["train"])
    torch.manual_seed(recipe.seed)
    model = Model(recipe.model, parts.dataset.image_shape)
    if begins:
        for module in (model, parts.objective):
            pretrained.load(module)
    check_disk(folder, planned_checkpoint_bytes(model, parts.objective, recipe.train))

    with locked_run(folder) if launch.is_main else nullcontext(), said_how_to_go_on(folder):
        if launch.is_main:
            write_recipe(folder, recipe)
            kept = keep_plugins(folder, recipe, before)
            record = lock_record(recipe, splits, command, launch.num, kept, before)
            write(folder / "lock.json", json.dumps(record, indent=2))
        x = read(splits[recipe.evaluation.reference].images, slice(12)).float() / 255
        z = torch.randn(len(x), *model.latent_shape, generator=torch.Generator().manual_seed(recipe.seed))

        @torch.no_grad()
        def draw(model: Model, step: int) -> dict[str, Path]:
            device = next(model.parameters()).device
            made = model.decode(model.encode(x.to(device)).mean)
            files = {kind: folder / "panels" / f"step-{step:08d}_{kind}.png" for kind in ("reconstruction", "sample")}
            panel(made, files["reconstruction"], x=x)
            panel(model.decode(z.to(device)), files["sample"])
            return files

        images = splits["train"].images
        summary = train(model, parts.objective, images, recipe.train, folder=folder, seed=recipe.seed, resume=resume,
                        panel=draw, profile=profile, metadata={"recipe": recipe.to_yaml()})  # fmt: skip
        if launch.is_main:  # what training cost is known now, whatever becomes of the scores
            made = _metrics(folder)  # of a run that had ended, scores that still hold
            kept = made if made.get("train", {}).get("steps") == summary["steps"] else {"name": recipe.name}
            write(folder / "metrics.json", json.dumps({**kept, "train": summary}, indent=2))
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

    folder = Path(folder)
    for word in overrides:
        if not word.startswith(("evaluation.", "samplers", "data.root")):
            raise UserError(f"{word}: a trained run can only change evaluation.*, samplers.* and data.root")
    launch = launched()
    with launch.ends_as_one():
        recipe = read_recipe(folder, overrides, plugins)
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder} cannot be written; score a copy of it")
        parts = check(recipe)
        model = load(folder, launch.device, plugins)
        with launch.first("prepared"):
            splits = prepare_splits(parts, recipe)
        train = _metrics(folder).get("train")
        step = checkpoint_step(folder)
        if not train or train.get("steps") != step:  # interrupted, perhaps when it went on
            train = _progress_so_far(folder)
        with locked_run(folder) if launch.is_main else nullcontext():
            metrics = _score(model, recipe, parts, splits, folder, train, step, launch)
            if launch.is_main:  # only now: what could not be scored has not been changed
                write_recipe(folder, recipe)
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
    from genzoo.evaluation.panels import save_png_samples

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
    from genzoo.evaluation.pictures import samples
    from genzoo.evaluation.posteriors import about

    folder = Path(folder)
    recipe = read_recipe(folder, plugins=plugins)
    samplers = check(recipe).samplers
    name = sampler or next(iter(samplers))
    if name not in samplers:
        raise UserError(f"run {folder} has no sampler '{name}' (its recipe names: {', '.join(samplers)})")
    if samplers[name].needs_fit and not load_sampler(folder, recipe, name, samplers[name]):
        raise UserError(f"sampler '{name}' of {folder} has not been fitted yet: `genzoo eval {folder}` does it")
    model = load(folder, plugins=plugins)
    said = {"sampler_name": name, "part": part, "checkpoint_step": checkpoint_step(folder), **about(samplers[name])}
    if (split := said["fit_split"]) not in (None, "train"):
        said["note"] = f"the sampler was fitted on the run's split '{split}', which flatters it against those images"
    device = next(model.parameters()).device
    return samples(model, samplers[name], num, seed=seed, device=device, part=part), said


def load(folder: str | Path, device: str | torch.device | None = None, plugins: Sequence[str] = ()) -> Model:
    """The trained model of a run folder, in eval mode: `genzoo.load("runs/svae_digits")`.

    The weights are the newest checkpoint's (their moving average where the recipe has `train.ema`). device: by default
    the GPU where there is one. plugins: files that register parts of it, to be executed. Those that a run of yours has
    executed before need not be named; any other file is not executed, and UserError says which.
    """
    from genzoo.training.checkpoint import load_model

    folder = Path(folder)
    recipe = read_recipe(folder, plugins=plugins)
    model = Model(recipe.model, build(DATASETS, recipe.data).image_shape)
    load_model(folder, model)
    if recipe.train.channels_last:  # as it was trained: another layout rounds otherwise
        model = model.to(memory_format=torch.channels_last)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def walls(folder: str | Path, plugins: Sequence[str] = ()) -> list[Wall]:
    """Walls of images for the pages of a run: what its newest checkpoint makes, with the samplers that are fitted.

    plugins: as `load` takes them.
    """
    from genzoo.reports.pictures import draw

    folder = Path(folder)
    recipe = read_recipe(folder, plugins=plugins)
    parts = check(recipe)
    model = load(folder, plugins=plugins)
    split = recipe.evaluation.reference
    images, device = prepare_splits(parts, recipe)[split].images, next(model.parameters()).device
    samplers = _fitted_samplers(folder, recipe, parts)
    return draw(model, samplers, images, split, seed=recipe.evaluation_seed, device=device)


def walls_beside(folders: dict[str, Path], plugins: Sequence[str] = ()) -> tuple[list[Wall], list[str]]:
    """Walls with a row for each of several runs, by name; and of those that cannot be shown so, the reason.

    plugins: as `load` takes them.
    """
    from genzoo.reports.pictures import beside

    models, samplers, notes, common = {}, {}, [], None
    for name, folder in folders.items():
        try:
            recipe = read_recipe(folder, plugins=plugins)
            parts = check(recipe)
            model = load(folder, plugins=plugins)
            split = prepare_splits(parts, recipe)[recipe.evaluation.reference]
        except UserError as error:
            notes.append(f"{name} is not among the pictures: {error}")
            continue
        common = common or (split, recipe.evaluation.reference, recipe.evaluation_seed, name)
        if split.sha256 != common[0].sha256:
            notes.append(f"{name} is not among the pictures: its images are not those of {common[3]}")
            continue
        models[name] = model
        samplers[name] = _fitted_samplers(folder, recipe, parts)
    if not models:
        return [], notes
    return beside(models, samplers, common[0].images, common[1], seed=common[2]), notes


def _fitted_samplers(folder: Path, recipe: Recipe, parts: Checked) -> dict[str, Sampler]:
    """The samplers that need no fit, or have had it on the newest checkpoint."""
    return {
        name: one
        for name, one in parts.samplers.items()
        if not one.needs_fit or load_sampler(folder, recipe, name, one)
    }


def prepare_splits(parts: Checked, recipe: Recipe) -> dict[str, Split]:
    """The dataset's prepared splits; UserError when one that the recipe needs is not among them."""
    from genzoo.evaluation.posteriors import fit_split

    dataset = parts.dataset
    wanted = {"train": "train", recipe.evaluation.reference: "evaluation.reference"}
    wanted |= {fit_split(one): f"samplers: {name}" for name, one in parts.samplers.items() if one.needs_fit}
    if not wanted.keys() <= set(dataset.splits):
        dataset.locate()  # a folder shows its splits when it is looked at
    for name, key in wanted.items():
        if name not in dataset.splits:
            raise UserError(f"{key}: {recipe.data.name} has no split '{name}' (it has: {', '.join(dataset.splits)})")
    with shown() as report:
        return prepare(dataset, recipe.data, report)


def _score(
    model: Model,
    recipe: Recipe,
    parts: Checked,
    splits: dict[str, Split],
    folder: Path,
    train: dict[str, Any],
    step: int,
    launch: Launch,
) -> dict | None:
    """Fit the samplers that are not fitted yet, evaluate, draw, and write metrics.json.

    train: its section; step: of the checkpoint that is scored.
    """
    from genzoo.evaluation.evaluate import evaluate
    from genzoo.evaluation.pictures import write_panels
    from genzoo.evaluation.posteriors import fit_samplers, fit_split

    device = next(model.parameters()).device
    images = {name: split.images for name, split in splits.items()}
    seed = recipe.evaluation_seed
    samplers = parts.samplers
    with shown() as report:
        unfitted = {name: sampler for name, sampler in samplers.items() if sampler.needs_fit}
        with launch.first("fitted"):  # the others find what the main process has learned
            data = {name: splits[fit_split(one)].sha256 for name, one in unfitted.items()}
            unfitted = {
                name: one for name, one in unfitted.items() if not load_sampler(folder, recipe, name, one, data[name])
            }
            skipped = fit_samplers(model, unfitted, images, seed=seed, device=device,
                                   batch_size=recipe.evaluation.batch_size, progress=report)  # fmt: skip
            if launch.is_main:
                for name in unfitted.keys() - skipped.keys():
                    save_sampler(folder, recipe, name, unfitted[name], data[name])
                ready = {name: sampler for name, sampler in samplers.items() if name not in skipped}
                write_panels(model, ready, images[recipe.evaluation.reference], folder / "panels", seed=seed,
                             device=device)  # fmt: skip
        made = evaluate(model, samplers, images, recipe.evaluation, seed=seed, device=device, progress=report,
                        skipped=skipped, processes=launch)  # fmt: skip
    if not launch.is_main:
        return None
    made["protocol"]["checkpoint_step"] = step
    metrics = {"name": recipe.name, **made, "train": train}
    old, before = _metrics(folder), read_recipe(folder)
    if "scores" in old and (before.evaluation, before.samplers) != (recipe.evaluation, recipe.samplers):
        kept = next(path for n in count(1) if not (path := folder / f"metrics-{n}.json").exists())
        write(kept, json.dumps(old, indent=2))
        log.info("the scores before are kept in %s", kept)
    write(folder / "metrics.json", json.dumps(metrics, indent=2))
    if recipe.report:
        from genzoo.reports.pictures import draw
        from genzoo.reports.report import report

        fitted = {name: sampler for name, sampler in samplers.items() if name not in skipped}
        report(folder, lambda: draw(model, fitted, images[recipe.evaluation.reference], recipe.evaluation.reference,
                                    seed=seed, device=device))  # fmt: skip
    return metrics


def _metrics(folder: Path) -> dict[str, Any]:
    """What metrics.json holds already."""
    file = folder / "metrics.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        log.warning("%s cannot be read (%s) and will be written anew", file, error)
        return {}


def _progress_so_far(folder: Path) -> dict[str, Any]:
    """The `train` section of a run that was interrupted: its last logged line."""
    file = folder / "train.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {"interrupted": True, **(json.loads(lines[-1]) if lines else {})}
