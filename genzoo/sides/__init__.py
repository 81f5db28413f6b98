"""What `genzoo fid A B` may name: files, arrays, a dataset's split, or what a run generates.

Each of these is a module here, imported when a side is of its kind: two folders of images need no model.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from genzoo.config import Config
from genzoo.errors import UserError, suggestion
from genzoo.evaluation.images import Images, from_array
from genzoo.evaluation.statistics import Known
from genzoo.images.tree import SUFFIXES, Tree
from genzoo.registry import DATASETS

Source = Any  # a name (str or Path), an array or tensor of images, or an iterable of batches of them


def opened(
    sources: Sequence[Source],
    *,
    num: int | None = None,
    seed: int = 0,
    root: str | None = None,
    plugins: Sequence[str] = (),
    before_samples: Callable[[], None] = lambda: None,
) -> list[Images | Known]:
    """Every side (`side`), in order. What costs most, the samples of runs, is made last, after `before_samples`.

    A dataset beside a run is prepared at the size of the run's images.
    """
    runs = [found for source in sources if (found := _run_in(source))]
    like = None
    if runs:
        from genzoo.sides.run import data_of

        like = data_of(runs[0][0], plugins)
    made: dict[int, Images | Known] = {}
    for late in (False, True):
        if late:
            before_samples()
        for place, source in enumerate(sources):
            if (_run_in(source) is not None) == late:
                made[place] = side(source, num, seed, root, plugins, like)
    return [made[place] for place in range(len(sources))]


def is_run(name: str) -> bool:
    """Whether that side is what a run generates."""
    return _run_in(name) is not None


def _run_in(name: Source) -> tuple[Path, list[str]] | None:
    """The run folder in RUN[:SAMPLER[:PART]], whose path may hold colons itself, and the words behind it.

    A folder of images that holds a recipe is no run: a run has checkpoints and a lock.json.
    """
    if not isinstance(name, str | Path):
        return None
    words = str(name).split(":")
    for behind in range(min(3, len(words))):
        folder = Path(":".join(words[: len(words) - behind])).expanduser()
        if _is_run(folder):
            return folder, words[len(words) - behind :]
    return None


def _is_run(folder: Path) -> bool:
    kept = all((folder / name).is_file() for name in ("recipe.yaml", "lock.json"))
    return kept and any((folder / "checkpoints").glob("step-*"))


def side(
    source: Source,
    num: int | None = None,
    seed: int = 0,
    root: str | None = None,
    plugins: Sequence[str] = (),
    like: Config | None = None,
) -> Images | Known:
    """A folder or zip of images, an .npy or .npz of images or statistics, dataset:split, or RUN[:SAMPLER[:PART]].

    Or images in memory: an array or tensor (as in files: genzoo.images.pixels), or an iterable of batches of them, each
    alone or first in a tuple. num: at most so many images (of a run: exactly so many, 10,000 by default). root: where
    the dataset's files are. plugins: files to be executed for a run (genzoo.plugin_files). like: the `data` of a run,
    whose size a dataset is prepared at. UserError says what is accepted.
    """
    if not isinstance(source, str | Path):
        from genzoo.sides.arrays import in_memory

        return in_memory(source, num)
    name = str(source)
    if found := _run_in(name):
        from genzoo.sides.run import generated

        folder, words = found
        sampler, image = [*words, "", ""][:2]
        return generated(name, folder, num or 10_000, sampler or None, image or "y", seed, plugins)
    path = Path(name).expanduser()
    if all((path / file).is_file() for file in ("recipe.yaml", "lock.json")):
        raise UserError(f"{name} is a run without a checkpoint: there is nothing to sample from yet")
    file, colon, key = name.rpartition(":")
    if path.suffix in (".npy", ".npz") and path.is_file():
        array, key = path, None
    elif colon and file.endswith(".npz"):  # one of several in it
        array = Path(file).expanduser()
    else:
        array = None
    if array and array.is_file():
        from genzoo.sides.arrays import from_file

        return from_file(array, key, num)
    if path.is_dir() or path.is_file():
        from genzoo.sides.tree import from_tree

        return from_tree(name, Tree(path, SUFFIXES), num)
    dataset, colon, split = name.partition(":")
    if colon and ("/" not in dataset or dataset in DATASETS.entries):  # acme/photos:test
        from genzoo.sides.dataset import split_of

        return from_array(name, split_of(dataset, split, root, like), num)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(
        f"there is no {name}{suggestion(path.name, siblings)}; each side is a folder or zip of images, an .npy or .npz "
        "of images or statistics, a run, or dataset:split such as mnist:test"
    )
