"""The run folder: who may write it, what it says of itself, and the samplers that were fitted in it."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from genzoo import __version__
from genzoo.data.store import Split
from genzoo.doctor import origins, used
from genzoo.errors import UserError
from genzoo.parts import Sampler
from genzoo.recipe import Recipe, read

# What may differ from the recipe a run was started with when it goes on: nothing that changed its past.
FREE_ON_RESUME = {"evaluation", "samplers", "data.root"} | {
    f"train.{key}"
    for key in (
        "steps",
        "checkpoint_every",
        "panel_every",
        "log_every",
        "keep",
        "keep_best",
        "max_time",
        "trackers",
        "parallel",
        "activation_checkpointing",
    )
}


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
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
        if old.get(key) != new.get(key)
        and not any(key == free or key.startswith(f"{free}.") for free in FREE_ON_RESUME)
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


def check_space(folder: Path, num_bytes: int) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise UserError(
            f"{folder}: the planned checkpoints take {num_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "make room, lower train.keep, or choose another disk with --out"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two processes never write the same run."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"another process is writing {folder}; wait for it, or use --out for another folder") from None


def lock_record(recipe: Recipe, splits: dict[str, Split], command: list[str] | None, num_processes: int) -> dict:
    """lock.json: what a number made in this run depended on besides the recipe."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"genzoo": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn", "zuko", "pydantic"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "plugins": used(recipe),
        "data": {name: {"num_images": len(split), "sha256": split.sha256} for name, split in splits.items()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "num_processes": num_processes,
        "seed": recipe.seed,
        "command": command,
    }


def read_recipe(folder: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe of a run; when it names a part that is not here, lock.json says where that came from."""
    path = _recipe_file(folder)
    try:
        return read(path, overrides)
    except UserError as error:
        lock = path.with_name("lock.json")
        plugins = json.loads(lock.read_text(encoding="utf-8"))["plugins"] if lock.is_file() else {}
        raise UserError(f"{error}{origins(plugins)}") from error


def _recipe_file(folder: Path) -> Path:
    path = Path(folder) / "recipe.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is not a run folder: it has no recipe.yaml (`genzoo run RECIPE --out {folder}`)")
    return path


def write_recipe(folder: Path, recipe: Recipe) -> None:
    write(folder / "recipe.yaml", f"# genzoo run {folder / 'recipe.yaml'}\n{recipe.to_yaml()}")


def save_sampler(folder: Path, recipe: Recipe, name: str, sampler: Sampler) -> None:
    """Keep what a sampler learned, with what it was learned from."""
    from safetensors.torch import save_file

    file = folder / "samplers" / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    save_file(sampler.state_dict(), partial, metadata={"fitted": _fitted(folder, recipe, name)})
    partial.replace(file)


def load_sampler(folder: Path, recipe: Recipe, name: str, sampler: Sampler) -> bool:
    """Give a sampler what it learned before; False when it was never fitted with these options on these weights."""
    from safetensors import safe_open

    file = folder / "samplers" / f"{name}.safetensors"
    if not file.is_file():
        return False
    with safe_open(file, "pt") as tensors:
        if tensors.metadata().get("fitted") != _fitted(folder, recipe, name):
            return False
        names = tensors.keys()  # not a dict: it cannot be iterated itself
        sampler.load_state_dict({key: tensors.get_tensor(key) for key in names})
    return True


def _fitted(folder: Path, recipe: Recipe, name: str) -> str:
    """What a fitted sampler depends on: its options, the data, and the checkpoint."""
    from genzoo.training.checkpoint import newest

    options = next(config for config in recipe.samplers if config.name == name)
    checkpoint = newest(folder)
    return json.dumps(
        {
            "options": options.model_dump(mode="json"),
            "seed": recipe.seed if recipe.evaluation.seed is None else recipe.evaluation.seed,
            "checkpoint": checkpoint and checkpoint.name,
        }
    )


@contextmanager
def said_how_to_go_on(folder: Path) -> Iterator[None]:
    """Whatever fails inside carries the command that goes on from the newest checkpoint."""
    try:
        yield
    except Exception as error:
        error.add_note(f"go on with: genzoo run {folder / 'recipe.yaml'} --out {folder} --resume")
        raise


def write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
