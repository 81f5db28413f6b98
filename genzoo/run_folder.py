"""The run folder: who may write it, and what it says of itself."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from genzoo import files
from genzoo.config import leaves
from genzoo.data.store import Split
from genzoo.errors import UserError
from genzoo.evaluation.protocol import versions
from genzoo.owners import origins, used
from genzoo.recipe import Recipe, read
from genzoo.recipe_file import load
from genzoo.training import checkpoint
from genzoo.training.log import read_lines
from genzoo.training.signals import resume_command

log = logging.getLogger("genzoo")

# What may differ from the recipe a run was started with when it goes on: nothing that changed its past.
FREE_TRAIN = ["steps", "checkpoint_every", "panel_every", "log_every", "keep", "keep_best", "max_time", "trackers",
              "parallel", "activation_checkpointing"]  # fmt: skip
FREE_ON_RESUME = {"evaluation", "samplers", "data.root", "plugins", "report", *(f"train.{key}" for key in FREE_TRAIN)}
FILES = ("recipe.yaml", "lock.json", "metrics.json", "train.jsonl", "precision.json", "report.html")
FOLDERS = ("checkpoints", "latents", "samplers", "panels", "plugins")


class RunFolder:
    """One run on disk. Its files are written whole, and read here, where a damaged one is told with the remedy.

    What an older file or the rest of the folder can stand in for, it does, and a warning says so.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    # --- who may write ---

    def locked(self) -> AbstractContextManager[None]:
        """Two processes never write the same run."""
        advice = "wait for it, or use --out for another folder"
        return files.locked(self.path / ".lock", f"another process is writing {self}; {advice}")

    def refuse_other_run(self, recipe: Recipe, resume: bool) -> None:
        """A new run never writes into an old one's folder; a resumed one must be the same run."""
        files.check_writable(self.path)
        if not resume:
            if self.path.exists() and (not self.path.is_dir() or {one.name for one in self.path.iterdir()} - {".lock"}):
                raise UserError(
                    f"{self} exists: --resume goes on with that run, --out DIR starts another elsewhere "
                    f"({self._proposal(recipe)})"
                )
            return
        self.refuse_strange_files()
        if not any((self.path / name).exists() for name in ("recipe.yaml", "checkpoints")):
            return  # nothing was started yet
        begun = self.recipe(plugins=_executed(recipe))
        old, new = (dict(leaves(one.model_dump(mode="json"))) for one in (begun, recipe))
        changed = [
            f"{key}: {old.get(key)} -> {new.get(key)}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
            and not any(key == free or key.startswith(f"{free}.") for free in FREE_ON_RESUME)
        ]
        if changed:
            raise UserError(
                f"--resume: the recipe is not the one {self} was started with ({'; '.join(changed)}); "
                f"`{resume_command(self.path)}` goes on with that one"
            )
        if recipe.train.steps < (done := self.step() or 0):
            raise UserError(
                f"--resume: {self} has done {done} steps already; train.steps={recipe.train.steps} is fewer"
            )

    def _proposal(self, recipe: Recipe) -> str:
        """A folder that is free; named by the data where the run that is here was on others."""
        try:
            begun = load(self.path / "recipe.yaml")[0].get("data")
            held = begun.get("name") if isinstance(begun, dict) else begun
        except UserError:  # it is no run
            held = None
        new = recipe.data.name
        if other := held not in (None, new):
            name = f"{self.path.name}_{new.replace('/', '_')}"
            names = (name if n == 1 else f"{name}-{n}" for n in count(1))
        else:
            names = (f"{self.path.name}-{n}" for n in count(2))
        free = next(path for name in names if not (path := self.path.with_name(name)).exists())
        return f"that one is on {held}, this one on {new}: --out {free}" if other else f"--out {free}"

    def refuse_strange_files(self) -> None:
        """A folder in the place of a file, or a file in the place of a folder, is nothing that training can mend."""
        for name in FILES:
            if (self.path / name).is_dir():
                raise UserError(f"{self.path / name} is a folder, where a run keeps a file; move it away")
        for name in FOLDERS:
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise UserError(f"{self.path / name} is no folder, where a run keeps one; move it away")

    def refuse_other_data(self, train: Split) -> None:
        """UserError unless these are the images that the run was begun with, as far as lock.json still says."""
        begun = _dict(_dict(self.lock().get("data")).get("train"))
        if "sha256" not in begun:
            if (self.path / "lock.json").exists():
                log.warning("%s does not say which images the run was begun with: they are not compared", self)
        elif begun["sha256"] != train.sha256:
            raise UserError(
                f"--resume: {self} was begun with other training images ({begun.get('num_images'):,}, sha256 "
                f"{begun['sha256'][:12]}...) than {train.path} holds ({len(train):,}, {train.sha256[:12]}...); put the "
                "data back as it was, or start another run with --out"
            )

    def refuse_small_disk(self, num_bytes: int) -> None:
        """UserError unless the disk can hold checkpoints of so many bytes, those that are there already among them."""
        there = sum(file.stat().st_size for file in (self.path / "checkpoints").rglob("*") if file.is_file())
        advice = "make room, lower train.keep, or choose another disk with --out"
        message = f"{self}: the planned checkpoints take {{need}} and {{free}} are free; {advice}"
        files.check_space(self.path, num_bytes - there, message)

    # --- recipe and lock ---

    def recipe(self, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> Recipe:
        """The recipe; when it names a part that is not here, lock.json says where that came from.

        plugins: files to be executed (genzoo.recipe.read). Where recipe.yaml is gone or damaged, what the newest
        checkpoint carries is taken.
        """
        path, text = self.path / "recipe.yaml", None
        try:
            load(path)
        except UserError as fault:
            if text := self._recipe_of_checkpoint():
                log.warning("%s; the recipe that the newest checkpoint carries is taken", fault)
            elif path.is_file():
                raise UserError(f"{fault}; put it back, or train again elsewhere") from None
            else:
                advice = f"`genzoo run RECIPE --out {self}`"
                raise UserError(f"{self} is not a run folder: it has no recipe.yaml ({advice})") from None
        try:
            return read(path, overrides, plugins, text=text)
        except UserError as error:
            parts = _dict(self.lock().get("plugins"))
            raise UserError(f"{error}{origins({place: str(owner) for place, owner in parts.items()})}") from error

    def _recipe_of_checkpoint(self) -> str | None:
        try:
            newest = checkpoint.newest(self.path)
            if newest is None:
                return None
            with safe_open(newest / "model.safetensors", "pt") as tensors:
                return (tensors.metadata() or {}).get("recipe")
        except (UserError, OSError, SafetensorError):  # the fault of recipe.yaml is told
            return None

    def write_recipe(self, recipe: Recipe) -> None:
        path = self.path / "recipe.yaml"
        files.write_text(path, f"# genzoo run {shlex.quote(str(path))}\n{recipe.to_yaml()}\n")

    def lock(self) -> dict[str, Any]:
        """What lock.json says; nothing where there is none, or a damaged one."""
        return files.read_json(self.path / "lock.json", "what the run was begun with is not known") or {}

    def write_lock(
        self, recipe: Recipe, splits: dict[str, Split], command: list[str] | None, num_processes: int, resume: bool
    ) -> None:
        """lock.json: what a number made in this run depended on besides the recipe; and copies of its plugin files.

        The record of the run's earlier part is kept under "before" as far as it may differ.
        """
        before = self.lock() if resume else {}
        parts = ("versions", "device", "num_processes", "command", "plugin_files")
        record = {
            "versions": versions(),
            "plugins": used(recipe),
            "plugin_files": self._keep_plugins(recipe, before),
            "data": {name: {"num_images": len(split), "sha256": split.sha256} for name, split in splits.items()},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "num_processes": num_processes,
            "seed": recipe.seed,
            "command": command,
            "before": [*before.get("before", []), {key: before.get(key) for key in parts}] if before else [],
        }
        files.write_json(self.path / "lock.json", record)

    def _keep_plugins(self, recipe: Recipe, before: dict[str, Any]) -> dict[str, str]:
        """Copy the recipe's plugin files; their sha256. A warning where the run was begun with others."""
        if not recipe.plugins:
            return {}
        from genzoo.plugin_files import keep

        kept = keep(self.path, recipe.plugins)
        begun = {Path(path).name: str(digest) for path, digest in _dict(before.get("plugin_files")).items()}
        for path, digest in kept.items():
            if (old := begun.get(Path(path).name, digest)) != digest:
                log.warning("plugin %s is not the one that %s was begun with: that one is kept as %s", path, self,
                            self.path / "plugins" / f"{old[:12]}-{Path(path).name}")  # fmt: skip
        return kept

    # --- what training and scoring left ---

    def step(self) -> int | None:
        """Of the newest whole checkpoint."""
        newest = checkpoint.newest(self.path)
        return checkpoint.read_state(newest)["step"] if newest else None

    def lines(self) -> list[dict[str, Any]]:
        """What training logged, steps ascending."""
        return read_lines(self.path / "train.jsonl")

    def say_from_where(self) -> None:
        """A run whose checkpoints are gone begins anew: not without a word."""
        if not self.step() and (lines := self.lines()):
            log.warning("%s has no checkpoint, though step %d was reached: it begins again", self, lines[-1]["step"])

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds already."""
        made = files.read_json(self.path / "metrics.json", "it will be written anew") or {}
        scores = made.get("scores", [])
        sound = {"train": isinstance(made.get("train"), dict), "scores": isinstance(scores, list)}
        return {key: value for key, value in made.items() if sound.get(key, True)}

    def keep_scores(self, recipe: Recipe) -> None:
        """Scores that were made with other settings than the recipe's stay in metrics-1.json, metrics-2.json, ..."""
        before = self.recipe(plugins=_executed(recipe))
        changed = (before.evaluation, before.samplers) != (recipe.evaluation, recipe.samplers)
        if changed and "scores" in (old := self.metrics()):
            kept = next(path for n in count(1) if not (path := self.path / f"metrics-{n}.json").exists())
            files.write_json(kept, old)
            log.info("the scores before are kept in %s", kept)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        files.write_json(self.path / "metrics.json", metrics)

    def trained(self, step: int) -> dict[str, Any]:
        """The section `train` of metrics.json for the checkpoint of that step: of an interrupted run, its last line."""
        train = self.metrics().get("train", {})
        return train if train.get("steps") == step else {"interrupted": True, **(self.lines() or [{}])[-1]}

    @contextmanager
    def said_how_to_go_on(self) -> Iterator[None]:
        """Whatever fails inside carries the command that goes on from the newest checkpoint."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            error.add_note(f"go on with: {resume_command(self.path)}")
            raise


def _executed(recipe: Recipe) -> list[str]:
    """Its plugin files that this process has executed."""
    if not recipe.plugins:
        return []
    from genzoo.plugin_files import executed

    return [plugin for plugin in recipe.plugins if plugin in executed]


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}
