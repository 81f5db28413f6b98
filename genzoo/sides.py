"""What `genzoo fid A B` may name: files, a dataset's split, or what a run generates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genzoo.config import build, parse, part
from genzoo.data.files import Tree
from genzoo.data.images import SUFFIXES
from genzoo.data.npz import open_arrays
from genzoo.data.store import prepare
from genzoo.errors import UserError
from genzoo.evaluation.images import quantize
from genzoo.evaluation.sources import Images, find, from_array
from genzoo.evaluation.statistics import Known
from genzoo.registry import DATASETS
from genzoo.run import drawn
from genzoo.run_folder import RunFolder


def is_run(name: str) -> bool:
    """Whether that side is what a run generates."""
    return _run_in(name) is not None


def _run_in(name: str) -> tuple[Path, list[str]] | None:
    """The run folder in RUN[:SAMPLER[:PART]], whose path may hold colons itself, and the words behind it.

    A folder of images that holds a recipe is no run: a run has checkpoints and a lock.json.
    """
    words = name.split(":")
    for behind in range(min(3, len(words))):
        folder = Path(":".join(words[: len(words) - behind]))
        if RunFolder(folder).is_run():
            return folder, words[len(words) - behind :]
    return None


def side(
    name: str, num: int | None = None, seed: int = 0, root: str | None = None, plugins: Sequence[str] = ()
) -> Images | Known:
    """A folder or zip of images, an .npz of images or statistics, dataset:split, or RUN[:SAMPLER[:PART]].

    num: at most so many images (of a run: exactly so many, 10,000 by default). root: where the dataset's files are.
    plugins: files to be executed for a run (genzoo.plugin_files). UserError says what is accepted.
    """
    if found := _run_in(name):
        folder, rest = found
        sampler, image = [*rest, None, None][:2]
        made, about = drawn(
            folder, num or 10_000, sampler=sampler or None, part=image or "y", seed=seed, plugins=plugins
        )
        batches = [quantize(batch).permute(0, 2, 3, 1).numpy() for batch in made]
        images = from_array(name, np.concatenate(batches))
        images.about = about
        return images
    if all((Path(name) / file).is_file() for file in ("recipe.yaml", "lock.json")):
        raise UserError(f"{name} is a run without a checkpoint: there is nothing to sample from yet")
    return find(
        name, lambda path: Tree(path, SUFFIXES), lambda dataset, split: _split(dataset, split, root), open_arrays, num
    )


def _split(dataset: str, split: str, root: str | None) -> np.ndarray:
    config = parse(part(DATASETS), {"name": dataset} | ({} if root is None else {"root": root}), dataset)
    splits = prepare(build(DATASETS, config), config)
    if split not in splits:
        raise UserError(f"{dataset} has no split '{split}' (it has: {', '.join(splits)})")
    return splits[split].images
