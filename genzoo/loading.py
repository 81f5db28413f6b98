"""The trained model of a run folder."""

from collections.abc import Sequence
from pathlib import Path

import torch

from genzoo.config import build
from genzoo.model import Model
from genzoo.recipe import Recipe
from genzoo.registry import DATASETS
from genzoo.run_folder import RunFolder
from genzoo.training.checkpoint import load_model


def load(folder: str | Path, device: str | torch.device | None = None, plugins: Sequence[str] = ()) -> Model:
    """The trained model of a run folder, in eval mode: `genzoo.load("runs/svae_digits")`.

    Or of a folder that `genzoo export --to hf` wrote, or of `hf://OWNER/NAME[@REVISION]` on the Hugging Face Hub: no
    code in either is executed. The weights are the newest checkpoint's (their moving average where the recipe has
    `train.ema`). device: by default the GPU where there is one. plugins: files that register parts of it, to be
    executed. Those that a run of yours has executed before need not be named; any other file is not executed, and
    UserError says which.
    """
    from genzoo import hub_folder

    if str(folder).startswith("hf://"):
        folder = hub_folder.fetch(str(folder))
    if hub_folder.is_hub_folder(Path(folder)):
        return hub_folder.load(Path(folder), device, plugins)
    run = RunFolder(folder)
    return loaded(run, run.recipe(plugins=plugins), device)[0]


def loaded(
    run: RunFolder,
    recipe: Recipe,
    device: str | torch.device | None = None,
    objective: torch.nn.Module | None = None,
) -> tuple[Model, int]:
    """The model, and the step of the checkpoint that it is. objective: its state is loaded from there, too."""
    model = Model(recipe.model, build(DATASETS, recipe.data).image_shape)
    step = load_model(run.path, model, objective)
    if recipe.train.channels_last:  # as it was trained: another layout rounds otherwise
        model = model.to(memory_format=torch.channels_last)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), step
