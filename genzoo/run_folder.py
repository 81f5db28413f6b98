"""The run folder: who may write it, what it says of itself, and the samplers that were fitted in it."""

import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from genzoo.config import leaves
from genzoo.data.store import Split
from genzoo.doctor import origins, used
from genzoo.errors import UserError
from genzoo.evaluation.record import versions
from genzoo.files import check_space, check_writable, locked, write_text
from genzoo.parts import Sampler
from genzoo.plugin_files import executed, keep
from genzoo.recipe import Recipe, read
from genzoo.training.checkpoint import newest, read_state
from genzoo.training.signals import resume_command

log = logging.getLogger("genzoo")

# What may differ from the recipe a run was started with when it goes on: nothing that changed its past.
FREE_ON_RESUME = {"evaluation", "samplers", "data.root", "plugins", "report"} | {
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


def is_run_folder(folder: Path) -> bool:
    """Whether a run lives there: a folder of anything may hold a recipe.yaml."""
    files = all((folder / name).is_file() for name in ("recipe.yaml", "lock.json"))
    return files and any((folder / "checkpoints").glob("step-*"))


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """A new run never writes into an old one's folder; a resumed one must be the same run."""
    check_writable(folder)
    if not resume:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} exists: --resume goes on with that run, --out DIR starts another elsewhere")
        return
    if not (folder / "recipe.yaml").is_file():
        return  # nothing was started yet
    begun = read_recipe(folder, plugins=[plugin for plugin in recipe.plugins if plugin in executed])
    old, new = (dict(leaves(r.model_dump(mode="json"))) for r in (begun, recipe))
    changed = [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and not any(key == free or key.startswith(f"{free}.") for free in FREE_ON_RESUME)
    ]
    if changed:
        raise UserError(
            f"--resume: the recipe is not the one {folder} was started with ({'; '.join(changed)}); "
            f"`{resume_command(folder)}` goes on with that one"
        )
    if recipe.train.steps < (done := checkpoint_step(folder) or 0):
        raise UserError(f"--resume: {folder} has done {done} steps already; train.steps={recipe.train.steps} is fewer")


def check_disk(folder: Path, num_bytes: int) -> None:
    """UserError unless the disk can hold checkpoints of so many bytes, those that are there already among them."""
    there = sum(file.stat().st_size for file in (folder / "checkpoints").rglob("*") if file.is_file())
    advice = "make room, lower train.keep, or choose another disk with --out"
    check_space(
        folder, num_bytes - there, f"{folder}: the planned checkpoints take {{need}} and {{free}} are free; {advice}"
    )


def locked_run(folder: Path) -> AbstractContextManager[None]:
    """Two processes never write the same run."""
    return locked(
        folder / ".lock", f"another process is writing {folder}; wait for it, or use --out for another folder"
    )


def read_lock(folder: Path) -> dict | None:
    """lock.json; None where nothing was started yet."""
    file = folder / "lock.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def check_data(folder: Path, lock: dict, train: Split) -> None:
    """UserError unless these are the images that the run was begun with."""
    begun = lock["data"]["train"]
    if begun["sha256"] != train.sha256:
        raise UserError(
            f"--resume: {folder} was begun with other training images ({begun['num_images']:,}, sha256 "
            f"{begun['sha256'][:12]}...) than {train.path} holds ({len(train):,}, {train.sha256[:12]}...); put the "
            "data back as it was, or start another run with --out"
        )


def checkpoint_step(folder: Path) -> int | None:
    """Of the newest whole checkpoint."""
    checkpoint = newest(folder)
    return read_state(checkpoint)["step"] if checkpoint else None


def lock_record(
    recipe: Recipe,
    splits: dict[str, Split],
    command: list[str] | None,
    num_processes: int,
    plugin_files: dict[str, str],
    before: dict | None = None,
) -> dict:
    """lock.json: what a number made in this run depended on besides the recipe.

    plugin_files: path -> sha256. before: the record of the run's earlier part, which is kept under "before" as far as
    it may differ.
    """
    return {
        "versions": versions(),
        "plugins": used(recipe),
        "plugin_files": plugin_files,
        "data": {name: {"num_images": len(split), "sha256": split.sha256} for name, split in splits.items()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "num_processes": num_processes,
        "seed": recipe.seed,
        "command": command,
        "before": [
            *before.get("before", []),
            {key: before.get(key) for key in ("versions", "device", "num_processes", "command", "plugin_files")},
        ]
        if before
        else [],
    }


def read_recipe(folder: Path, overrides: tuple[str, ...] = (), plugins: Sequence[str] = ()) -> Recipe:
    """The recipe of a run; when it names a part that is not here, lock.json says where that came from.

    plugins: files to be executed (genzoo.recipe.read).
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is not a run folder: it has no recipe.yaml (`genzoo run RECIPE --out {folder}`)")
    try:
        return read(path, overrides, plugins)
    except UserError as error:
        lock = read_lock(folder)
        raise UserError(f"{error}{origins(lock['plugins'] if lock else {})}") from error


def write_recipe(folder: Path, recipe: Recipe) -> None:
    write(folder / "recipe.yaml", f"# genzoo run {shlex.quote(str(folder / 'recipe.yaml'))}\n{recipe.to_yaml()}")


def keep_plugins(folder: Path, recipe: Recipe, before: dict | None) -> dict[str, str]:
    """Copy the recipe's plugin files into the run folder; their sha256. A warning where the run was begun with others.

    before: lock.json of the run's earlier part.
    """
    kept = keep(folder, recipe.plugins)
    begun = {Path(path).name: digest for path, digest in (before or {}).get("plugin_files", {}).items()}
    for path, digest in kept.items():
        if (old := begun.get(Path(path).name, digest)) != digest:
            log.warning("plugin %s is not the one that %s was begun with: that one is kept as %s", path, folder,
                        folder / "plugins" / f"{old[:12]}-{Path(path).name}")  # fmt: skip
    return kept


def save_sampler(folder: Path, recipe: Recipe, name: str, sampler: Sampler, data: str) -> None:
    """Keep what a sampler learned, with what it was learned from; data: the digest of its images."""
    from safetensors.torch import save_file

    file = folder / "samplers" / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    fitted = json.dumps(_fitted(folder, recipe, name, data))
    save_file(sampler.state_dict(), partial, metadata={"fitted": fitted})
    partial.replace(file)


def load_sampler(folder: Path, recipe: Recipe, name: str, sampler: Sampler, data: str | None = None) -> bool:
    """Give a sampler what it learned before; False when it was never fitted with these options on these weights.

    data: the digest of the images it must have learned from; None: whatever they were.
    """
    from safetensors import safe_open

    file = folder / "samplers" / f"{name}.safetensors"
    if not file.is_file():
        return False
    with safe_open(file, "pt") as tensors:
        fitted = json.loads(tensors.metadata().get("fitted", "{}"))
        if fitted != _fitted(folder, recipe, name, fitted.get("data") if data is None else data):
            return False
        names = tensors.keys()  # not a dict: it cannot be iterated itself
        sampler.load_state_dict({key: tensors.get_tensor(key) for key in names})
    return True


def _fitted(folder: Path, recipe: Recipe, name: str, data: str | None) -> dict:
    """What a fitted sampler depends on: its options, the data, and the checkpoint."""
    options = next(config for config in recipe.samplers if config.name == name)
    checkpoint = newest(folder)
    return {
        "options": options.model_dump(mode="json"),
        "seed": recipe.evaluation_seed,
        "checkpoint": checkpoint and checkpoint.name,
        "data": data,
    }


@contextmanager
def said_how_to_go_on(folder: Path) -> Iterator[None]:
    """Whatever fails inside carries the command that goes on from the newest checkpoint."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        error.add_note(f"go on with: {resume_command(folder)}")
        raise


def write(path: Path, text: str) -> None:
    write_text(path, text + "\n")
