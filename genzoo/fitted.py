"""The samplers that were fitted in a run folder: files that know which checkpoint and images they learned from."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genzoo import files
from genzoo.config import parse, part
from genzoo.parts import Sampler
from genzoo.recipe import Recipe
from genzoo.registry import SAMPLERS
from genzoo.training import checkpoint

log = logging.getLogger("genzoo")


def with_sampler(run: Path, recipe: Recipe, name: str) -> Recipe:
    """The recipe with the sampler of that name, which an earlier evaluation has fitted or which learns nothing."""
    if name in [config.name for config in recipe.samplers] or name not in SAMPLERS.entries:
        return recipe
    options: dict[str, Any] = {}
    try:
        if (file := _file(run, name)).exists():
            with safe_open(file, "pt") as opened:
                options = json.loads((opened.metadata() or {})["fitted"])["options"]
        elif SAMPLERS.get(name).needs_fit:
            return recipe
        config = parse(part(SAMPLERS), {**options, "name": name}, str(file))
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        log.warning("%s is damaged (%s): the sampler has to be fitted again", file, error)
        return recipe
    return recipe.model_copy(update={"samplers": [*recipe.samplers, config]})


def save_sampler(run: Path, recipe: Recipe, name: str, sampler: Sampler, data: str) -> None:
    """Keep what a sampler learned, with what it was learned from; data: the digest of its images."""
    from safetensors.torch import save

    tensors = {key: tensor.contiguous() for key, tensor in sampler.state_dict().items()}
    fitted = json.dumps(_fitted(run, recipe, name, data))
    with files.replacing(_file(run, name)) as file:
        file.write(save(tensors, {"fitted": fitted, "sha256": _digest(fitted, tensors)}))


def load_sampler(run: Path, recipe: Recipe, name: str, sampler: Sampler, data: str | None = None) -> bool:
    """Give a sampler what it learned before; False when it was never fitted with these options on these weights.

    data: the digest of the images it must have learned from; None: whatever they were. A damaged file is none.
    """
    if not (file := _file(run, name)).exists() and not file.is_symlink():
        return False
    try:
        files.refuse_device(file)
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            names = opened.keys()  # not a dict: it cannot be iterated itself
            tensors = {key: opened.get_tensor(key) for key in names}
        if about.get("sha256") != _digest(about.get("fitted", ""), tensors):
            raise ValueError("it changed since it was written")
        fitted = json.loads(about["fitted"])
        if fitted != _fitted(run, recipe, name, fitted.get("data") if data is None else data):
            return False
        sampler.load_state_dict(tensors)
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
        log.warning("%s is damaged (%s): the sampler has to be fitted again", file, error)
        return False
    return True


def _file(run: Path, name: str) -> Path:
    return run / "samplers" / f"{name}.safetensors"


def _fitted(run: Path, recipe: Recipe, name: str, data: str | None) -> dict[str, Any]:
    """What a fitted sampler depends on: its options, the data, and the checkpoint."""
    options = next(config for config in recipe.samplers if config.name == name)
    newest = checkpoint.newest(run)
    return {
        "options": options.model_dump(mode="json"),
        "seed": recipe.evaluation_seed,
        "checkpoint": newest and newest.name,
        "data": data,
    }


def fitted_samplers(run: Path, recipe: Recipe, samplers: dict[str, Sampler]) -> dict[str, Sampler]:
    """Those that need no fit, or have had it on the newest checkpoint."""
    return {name: one for name, one in samplers.items() if not one.needs_fit or load_sampler(run, recipe, name, one)}


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """sha256 of a text and of tensors with their names, types and shapes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
