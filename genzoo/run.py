"""A run from recipe to numbers: check, prepare, train, sample, score, draw. Results live in the run folder alone."""

import logging
from contextlib import nullcontext
from pathlib import Path

import torch

from genzoo import pretrained
from genzoo.evaluation.config import missing
from genzoo.evaluation.drawing import panel
from genzoo.evaluation.images import read
from genzoo.launch import Launch, launched
from genzoo.model import Model
from genzoo.owners import used
from genzoo.preparation import build_parts, prepare_splits
from genzoo.recipe import Recipe
from genzoo.run_folder import RunFolder
from genzoo.run_scores import score
from genzoo.tracing import refuse_large_training
from genzoo.training.preflight import planned_checkpoint_bytes, refuse_settings
from genzoo.training.signals import resume_command
from genzoo.training.step import Step
from genzoo.training.trainer import train

log = logging.getLogger("genzoo")


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
    launch = launched()
    with launch.ends_as_one():
        return _run(recipe, RunFolder(out or default_folder(recipe)), resume, profile, command, launch)


def _run(
    recipe: Recipe, folder: RunFolder, resume: bool, profile: bool, command: list[str] | None, launch: Launch
) -> dict | None:
    parts = build_parts(recipe)
    refuse_settings(recipe.train)
    if not torch.cuda.is_available():
        num = recipe.train.batch_size // (recipe.train.grad_accumulation * launch.num)
        refuse_large_training(recipe.model, parts.dataset.image_shape, recipe.objective, recipe.terms, num,
                              recipe.train.activation_checkpointing)  # fmt: skip
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
        again = resume_command(folder.path)
        return score(model, recipe, parts, splits, folder, summary, summary["steps"], launch, again)


def default_folder(recipe: Recipe) -> Path:
    return Path("runs") / recipe.name
