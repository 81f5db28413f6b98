"""The prepared store: a dataset is read once into raw uint8 arrays, which are memory-mapped ever after.

    <cache>/datasets/<name>-<key>/    card.json, train.u8, test.u8, ...     (n h w c, no header)

Of a dataset that streams, `train.index` and so on say where each image lies, in place of the images.

The key is a hash of the dataset's options and of what its `locate()` found, so other options or other files make
another folder. A folder is complete or absent: it is written as `<name>-<key>.partial`, under a lock, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from genzoo.cache import cache_dir
from genzoo.config import Config
from genzoo.data.prepared import Mapped, Split, compare
from genzoo.errors import UserError
from genzoo.files import locked, write_json
from genzoo.parts import Dataset
from genzoo.progress import Progress, silent

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when the layout of the folder changes: older folders are then prepared anew


@dataclass(frozen=True)
class Prepared:
    """What `genzoo data ls` shows of one folder."""

    path: Path
    card: dict | None  # None: not finished (in work, or interrupted) or damaged
    num_bytes: int


def prepare(dataset: Dataset, config: Config, progress: Progress = silent) -> dict[str, Split]:
    """The dataset's splits by name, read into the store first unless they are there already.

    Of two processes that ask at once, one prepares and the other waits. A preparation that was killed goes on where it
    was; one that failed leaves nothing. Raises UserError when the source is missing or bad, or the disk is full.
    """
    name = config.name or type(dataset).__name__.lower()
    card = {
        "format": FORMAT,
        "dataset": name,
        "config": config.model_dump(mode="json", exclude=getattr(dataset, "reading", None)),
        "source": dataset.locate(),
        "image_shape": list(dataset.image_shape),
    }
    if getattr(dataset, "streams", False):
        card["streams"] = True
    key = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_dir() / "datasets" / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{key}"
    built = False
    if _open(folder) is None:
        with _locked(folder):
            if _open(folder) is None:
                from genzoo.data.writing import build

                build(dataset, card, folder, progress)
                built = True  # and read back
    splits = _open(folder, dataset)
    if splits is None:
        raise UserError(f"{folder} was removed or changed while it was opened: run again")
    if not built:
        _compare(splits, folder)
    return splits


def _compare(splits: dict[str, Split], folder: Path) -> None:
    """Notice data that changed. A set that was copied or moved has other stamps: its card then learns them."""
    card = next(iter(splits.values())).card
    stamps = compare(splits, card.get("files", {}))
    if stamps != card.get("files"):
        with suppress(OSError):  # of a cache that cannot be written, it is read again each time
            write_json(folder / "card.json", card | {"files": stamps})


def listing() -> list[Prepared]:
    """Every dataset in the user's cache, unfinished ones too; without those that another process moves meanwhile."""
    rows = []
    for path in sorted(path for path in (cache_dir() / "datasets").glob("*") if path.is_dir()):
        splits = _open(path)
        try:
            num_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        except OSError:  # a preparation renames its folder when it is finished, and another process may remove it
            continue
        rows.append(Prepared(path, next(iter(splits.values())).card if splits else None, num_bytes))
    return rows


def _open(folder: Path, dataset: Dataset | None = None) -> dict[str, Split] | None:
    """The splits in a folder; None when there is none, or when it is damaged. A dataset that streams opens its own."""
    try:
        card = json.loads((folder / "card.json").read_text())
        layout = Layout.of(card)
        splits = {}
        for name, entry in card["splits"].items():
            path, shape = folder / f"{name}.{layout.suffix}", (entry["num_images"], *layout.shape)
            if path.stat().st_size != prod(shape) * layout.dtype.itemsize:
                return None
            stored = Mapped(path, layout.dtype, "r", shape=shape)
            images = dataset.opened(name, stored) if dataset and card.get("streams") else stored
            splits[name] = Split(images, path, entry["sha256"], card)
        return splits
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


@dataclass(frozen=True)
class Layout:
    """What a file of the store holds for each image: its pixels, or its place in the shards."""

    suffix: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, card: dict) -> Layout:
        c, h, w = card["image_shape"]
        if card.get("streams"):
            from genzoo.data.stream import ENTRY

            return cls("index", ENTRY, ())
        return cls("u8", np.dtype(np.uint8), (h, w, c))

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def check(self, some: object, place: str) -> None:
        if isinstance(some, np.ndarray) and some.dtype == self.dtype and some.shape[1:] == self.shape and some.ndim:
            return
        found = f"{some.dtype} {some.shape}" if isinstance(some, np.ndarray) else type(some).__name__
        wanted = "arrays of genzoo.data.stream.ENTRY"
        if self.shape:
            wanted = f"uint8 arrays n h w c with h w c = {self.shape}"
        raise UserError(f"{place}: read() must give {wanted}, not {found}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    waiting = f"another process is preparing {folder}: waiting for it"
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder.with_name(folder.name + ".lock"), waiting=waiting))
        except OSError as error:
            raise UserError(
                f"the cache {folder.parent} cannot be written ({error.strerror}); set GENZOO_CACHE to a folder that can"
            ) from error
        yield
