"""The samplers that were fitted in a run folder: files that know which checkpoint and images they learned from."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genzoo import files
from genzoo.config import parse, part
from genzoo.evaluation.generate import fit_split
from genzoo.launch import Launch
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
            files.refuse_device(file)
            with safe_open(file, "pt") as opened:
                options = json.loads((opened.metadata() or {})["fitted"])["options"]
        elif SAMPLERS.get(name).needs_fit:
            return recipe
        config = parse(part(SAMPLERS), {**options, "name": name}, str(file))
    except (OSError, ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
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
        own = parse(part(SAMPLERS), fitted["options"], str(file))  # an option that came later was at its default
        fitted |= {"options": own.model_dump(mode="json")}
        if fitted != _fitted(run, recipe, name, fitted.get("data") if data is None else data):
            return False
        sampler.load_state_dict(tensors)
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
        log.warning("%s is damaged (%s): the sampler has to be fitted again", file, error)
        return False
    return True


@dataclass(frozen=True)
class Kept:
    """What the samplers of a run learn from and what they learned, on disk.

    data: split -> digest of its images; again: the command that goes on after an interruption.
    """

    run: Path
    recipe: Recipe
    data: Mapping[str, str]
    again: str

    @property
    def latents(self) -> Path:
        """The folder of encoded splits."""
        return self.run / "latents"

    def made_of(self, split: str) -> dict[str, Any]:
        """What the latents of a split depend on: the weights and the images."""
        return {"weights": _weights(self.run), "images": self.data[split]}

    def load(self, name: str, sampler: Sampler) -> bool:
        return load_sampler(self.run, self.recipe, name, sampler, self.data[fit_split(sampler)])

    def save(self, name: str, sampler: Sampler) -> None:
        save_sampler(self.run, self.recipe, name, sampler, self.data[fit_split(sampler)])

    def begun(self, name: str, sampler: Sampler, processes: Launch) -> Path:
        """The folder in which a sampler is trained; what is left of another training of that name is gone."""
        folder = self.run / "samplers" / name
        if processes.is_main:
            split = fit_split(sampler)
            depends = {**_fitted(self.run, self.recipe, name, self.data[split]), **self.made_of(split)}
            file = folder / "fitted.json"
            if files.read_json(file, "the sampler is trained anew") != depends:
                files.delete(folder)
                files.write_json(file, depends)
        processes.all(True)
        return folder


def _weights(run: Path) -> str | None:
    """sha256 of the weights that the newest checkpoint is used for."""
    newest = checkpoint.newest(run)
    digests = files.read_json(newest / "manifest.json", "") if newest else None
    return digests and digests.get("ema.safetensors", digests["model.safetensors"])


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
