"""Images from the samplers of a trained run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.evaluation.generate import protocol_of, samples
from genzoo.evaluation.work import Work
from genzoo.files import check_writable
from genzoo.fitted import load_sampler, with_sampler
from genzoo.loading import loaded
from genzoo.preparation import build_samplers
from genzoo.registry import DATASETS
from genzoo.run_folder import RunFolder
from genzoo.tracing import trace


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
    run = RunFolder(folder)
    recipe = run.recipe(plugins=plugins)
    recipe = with_sampler(run.path, recipe, sampler) if sampler else recipe
    image_shape = build(DATASETS, recipe.data).image_shape
    samplers = build_samplers(recipe, trace(recipe.model, image_shape), image_shape)
    name = sampler or next(iter(samplers))
    if name not in samplers:
        raise UserError(f"run {folder} has no sampler '{name}' (its recipe names: {', '.join(samplers)})")
    if samplers[name].needs_fit and not load_sampler(run.path, recipe, name, samplers[name]):
        raise UserError(f"sampler '{name}' of {folder} has not been fitted yet: `genzoo eval {folder}` does it")
    model, step = loaded(run, recipe)
    origin = {"sampler_name": name, "part": part, "checkpoint_step": step, **protocol_of(samplers[name])}
    if (split := origin["fit_split"]) not in (None, "train"):
        origin["note"] = f"the sampler was fitted on the run's split '{split}', which flatters it against those images"
    device = next(model.parameters()).device
    return samples(model, samplers[name], num, seed=seed, part=part, work=Work(device, batch_size=100)), origin
