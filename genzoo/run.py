"""A run from recipe to numbers: check, prepare, train, sample, score, draw. The run folder is the only place it writes."""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genzoo import __version__
from genzoo.config import build
from genzoo.data.store import Split, prepare
from genzoo.errors import UserError
from genzoo.model import Model, trace
from genzoo.parts import Dataset, Sampler, Shape
from genzoo.recipe import Recipe, read
from genzoo.registry import DATASETS, KINDS, OBJECTIVES, SAMPLERS

log = logging.getLogger("genzoo")

# What may differ from the recipe a run was started with when it goes on: nothing that changed its past.
FREE_ON_RESUME = {"evaluation", "samplers", "data.root"} | {
    f"train.{key}" for key in ("steps", "checkpoint_every", "panel_every", "log_every", "keep", "max_time", "trackers")
}


@dataclass
class Checked:
    """A recipe whose parts have been built and found to fit, before any data is read."""

    dataset: Dataset
    objective: torch.nn.Module
    samplers: dict[str, Sampler]
    stages: dict[str, tuple[Shape, int]]  # name -> shape, trainable parameters


def check(recipe: Recipe) -> Checked:
    """Build every part at the dataset's image size (the model on the meta device); UserError names the one that fails."""
    dataset = build(DATASETS, recipe.data)
    stages = trace(recipe.model, dataset.image_shape)
    with torch.device("meta"):
        latent_shape = Model(recipe.model, dataset.image_shape).latent_shape
    samplers = {config.name: build(SAMPLERS, config, latent_shape=latent_shape) for config in recipe.samplers}
    objective = build(OBJECTIVES, recipe.objective, image_shape=dataset.image_shape)
    return Checked(dataset, objective, samplers, stages)


def run(recipe: Recipe, out: Path | None = None, *, resume: bool = False, command: list[str] | None = None) -> dict:
    """Do the whole run and return what metrics.json holds.

    out: the run folder, `runs/<name>` by default; it must be new unless `resume`. UserError before the first step for
    everything that can be known then.
    """
    from genzoo.evaluation.preflight import missing
    from genzoo.training.trainer import planned_checkpoint_bytes, train

    folder = out or Path("runs") / recipe.name
    parts = check(recipe)
    _check_folder(folder, recipe, resume)
    unavailable = missing(recipe.evaluation)
    if unavailable and recipe.evaluation.strict:
        raise UserError("evaluation.strict is set, and scores cannot be made: " + "; ".join(unavailable.values()))
    for metric, reason in unavailable.items():
        log.warning("%s will be skipped, `genzoo eval %s` adds it later: %s", metric, folder, reason)
    splits = prepare_splits(parts.dataset, recipe)
    torch.manual_seed(recipe.seed)
    model = Model(recipe.model, parts.dataset.image_shape)
    _check_space(folder, planned_checkpoint_bytes(model, parts.objective, recipe.train))

    with _locked(folder):
        _write(folder / "recipe.yaml", f"# genzoo run {folder / 'recipe.yaml'}\n{recipe.to_yaml()}")
        _write(folder / "lock.json", json.dumps(_lock(recipe, splits, command), indent=2))
        images = _images(splits)
        draw = _training_panel(folder, images[_reference(recipe, splits)], model.latent_shape, recipe.seed)
        summary = train(
            model,
            parts.objective,
            images["train"],
            recipe.train,
            folder=folder,
            seed=recipe.seed,
            resume=resume,
            panel=draw,
        )
        return _score(model, recipe, parts, splits, folder, {"train": summary})


def evaluate_run(folder: Path, overrides: tuple[str, ...] = ()) -> dict:
    """Score a finished or interrupted run (its newest checkpoint) again and rewrite its metrics.json."""
    allowed = ("evaluation.", "samplers", "data.root")
    for word in overrides:
        if not word.startswith(allowed):
            raise UserError(f"{word}: a trained run can only change evaluation.*, samplers.* and data.root")
    recipe = read(_recipe_file(folder), overrides)
    parts = check(recipe)
    model = load(folder)
    splits = prepare_splits(parts.dataset, recipe)
    with _locked(folder):
        known = json.loads(text) if (text := _read(folder / "metrics.json")) else {}
        return _score(model, recipe, parts, splits, folder, known)


def sample(folder: Path, num: int, out: Path, *, sampler: str | None = None, part: str = "y", seed: int = 0) -> None:
    """Write `num` PNG files drawn by one of the run's samplers; part: y, or a branch or map by name."""
    from safetensors.torch import load_file

    from genzoo.evaluation.generate import save_png_samples

    recipe = read(_recipe_file(folder))
    samplers = check(recipe).samplers
    name = sampler or next(iter(samplers))
    if name not in samplers:
        raise UserError(f"run {folder} has no sampler '{name}' (its recipe names: {', '.join(samplers)})")
    if samplers[name].needs_fit:
        file = folder / "samplers" / f"{name}.safetensors"
        if not file.is_file():
            raise UserError(f"sampler '{name}' of {folder} has not been fitted yet: `genzoo eval {folder}` does it")
        samplers[name].load_state_dict(load_file(file))
    model = load(folder)
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    latents = samplers[name].sample(num, generator).split(100)

    def images() -> Iterator[torch.Tensor]:
        with torch.inference_mode():
            for z in latents:
                composition = model.decode(z.to(device))
                made = {"y": composition.image, **composition.parts}
                if part not in made:
                    raise UserError(f"the model of {folder} makes no part '{part}' (it makes: {', '.join(made)})")
                yield made[part]

    save_png_samples(images(), out)


def load(folder: str | Path, device: str | torch.device | None = None) -> Model:
    """The trained model of a run folder, in eval mode: `genzoo.load("runs/svae_digits")`.

    The weights are the newest checkpoint's (their moving average where the recipe has `train.ema`). device: by default
    the GPU where there is one.
    """
    from genzoo.training.checkpoint import load_model

    folder = Path(folder)
    recipe = read(_recipe_file(folder))
    model = Model(recipe.model, build(DATASETS, recipe.data).image_shape)
    load_model(folder, model)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def prepare_splits(dataset: Dataset, recipe: Recipe) -> dict[str, Split]:
    """The dataset's prepared splits, with a line of progress; UserError when one that the recipe needs is missing."""
    splits = prepare(dataset, recipe.data)
    _reference(recipe, splits)
    return splits


def _reference(recipe: Recipe, splits: dict[str, Split]) -> str:
    if recipe.evaluation.reference not in splits:
        raise UserError(
            f"evaluation.reference: {recipe.data.name} has no split '{recipe.evaluation.reference}' "
            f"(it has: {', '.join(splits)})"
        )
    return recipe.evaluation.reference


def _score(
    model: Model, recipe: Recipe, parts: Checked, splits: dict[str, Split], folder: Path, known: dict[str, Any]
) -> dict:
    """Evaluate, draw and write metrics.json; `known` keeps what is not made here (its `train` section)."""
    from safetensors.torch import save_file

    from genzoo.evaluation.evaluate import evaluate

    model.eval()
    device = next(model.parameters()).device
    made = evaluate(model, parts.samplers, _images(splits), recipe.evaluation, seed=recipe.seed, device=device)
    for name, sampler in parts.samplers.items():
        if sampler.needs_fit:
            (folder / "samplers").mkdir(exist_ok=True)
            file = folder / "samplers" / f"{name}.safetensors"
            save_file(sampler.state_dict(), file.with_suffix(".partial"), metadata={"recipe": recipe.to_yaml()})
            file.with_suffix(".partial").replace(file)
    _draw(model, parts.samplers, splits[recipe.evaluation.reference].images, folder / "panels", recipe.seed)
    metrics = {"name": recipe.name, "folder": str(folder), **known, **made}
    _write(folder / "metrics.json", json.dumps(metrics, indent=2))
    return metrics


def _images(splits: dict[str, Split]) -> dict[str, Any]:
    return {name: split.images for name, split in splits.items()}


def _check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """A new run never writes into an old one's folder; a resumed one must be the same run."""
    if not resume:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} exists: --resume goes on with that run, --out DIR starts another elsewhere")
        return
    if not (folder / "recipe.yaml").is_file():
        return  # nothing was started yet
    old, new = (dict(_leaves(r.model_dump(mode="json"))) for r in (read(folder / "recipe.yaml"), recipe))
    changed = [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not any(key == free or key.startswith(f"{free}.") for free in FREE_ON_RESUME)
    ]
    if changed:
        raise UserError(
            f"--resume: the recipe is not the one {folder} was started with ({'; '.join(changed)}); "
            f"`genzoo run {folder / 'recipe.yaml'} --out {folder} --resume` goes on with that one"
        )


def _leaves(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{place}.{key}" if place else key)
    else:
        yield place, tree


def _check_space(folder: Path, num_bytes: int) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise UserError(
            f"{folder}: the planned checkpoints take {num_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "make room, lower train.keep, or choose another disk with --out"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two processes never write the same run."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"another process is writing {folder}; wait for it, or use --out for another folder") from None


def _lock(recipe: Recipe, splits: dict[str, Split], command: list[str] | None) -> dict:
    """lock.json: what a number made in this run depended on besides the recipe."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"genzoo": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn", "pydantic"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    owners = {entry.owner for registry in KINDS.values() for entry in registry.entries.values()} - {"genzoo"}
    return {
        "versions": versions,
        "plugins": sorted(owners),
        "data": {name: {"num_images": len(split), "sha256": split.sha256} for name, split in splits.items()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "seed": recipe.seed,
        "command": command,
    }


def _recipe_file(folder: Path) -> Path:
    path = Path(folder) / "recipe.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is not a run folder: it has no recipe.yaml (`genzoo run RECIPE --out {folder}`)")
    return path


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
