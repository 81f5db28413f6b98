"""What `genzoo fid A B` may name: files, a dataset's split, or what a run generates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from genzoo.config import build, parse, part
from genzoo.data.store import prepare
from genzoo.errors import UserError, suggestion
from genzoo.evaluation.images import Images, digest_of, from_array, of_rows, quantize, spread
from genzoo.evaluation.statistics import Known, read_statistics
from genzoo.images.arrays import Array, open_arrays
from genzoo.images.decode import MAX_SCORED_PIXELS, Header, look, stored
from genzoo.images.pool import each
from genzoo.images.tree import SUFFIXES, Tree
from genzoo.registry import DATASETS
from genzoo.run import drawn
from genzoo.run_folder import RunFolder

LOSSY = ("JPEG", "WEBP")


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
    path = Path(name).expanduser()
    if path.suffix == ".npz" and path.is_file():
        arrays = open_arrays(path)
        return read_statistics(path, arrays) or _from_npz(path, arrays, num)
    if path.is_dir() or path.is_file():
        return from_tree(name, Tree(path, SUFFIXES), num)
    dataset, colon, split = name.partition(":")
    if colon and "/" not in dataset:
        return from_array(name, _split(dataset, split, root), num)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(
        f"there is no {name}{suggestion(path.name, siblings)}; each side is a folder or zip of images, an .npz of "
        "images or statistics, a run, or dataset:split such as mnist:test"
    )


def _split(dataset: str, split: str, root: str | None) -> np.ndarray:
    config = parse(part(DATASETS), {"name": dataset} | ({} if root is None else {"root": root}), dataset)
    splits = prepare(build(DATASETS, config), config)
    if split not in splits:
        raise UserError(f"{dataset} has no split '{split}' (it has: {', '.join(splits)})")
    return splits[split].images


def _from_npz(path: Path, arrays: dict[str, Array], num: int | None) -> Images:
    """`images`, ADM's `arr_0`, or the only uint8 array n h w c, of which a few megabytes are in memory at a time."""
    found = {key: array for key, array in arrays.items() if len(array.shape) == 4 and array.shape[-1] in (1, 3, 4)}
    keys = [key for key in ("images", "arr_0") if key in found] or list(found)
    if not keys:
        held = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise UserError(f"{path} holds neither statistics (mu, sigma) nor images n h w c (it holds {held})")
    array = found[keys[0]]
    n, h, w, _ = array.shape
    if array.dtype != np.uint8 or min(n, h, w) < 1 or h * w > MAX_SCORED_PIXELS:
        raise UserError(f"{path}: the array '{keys[0]}' is {array.dtype} {array.shape}; images are uint8 in [0, 255]")
    if array.fortran_order:
        raise UserError(f"{path}: the array '{keys[0]}' is in Fortran order: save np.ascontiguousarray of it")

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        first = 0
        for block in array.blocks():
            start, stop = np.searchsorted(index, (first, first + len(block)))
            yield from (block[k - first] for k in index[start:stop])
            first += len(block)
            if stop == len(index):
                return

    return of_rows(str(path), array.shape, read, num)


def from_tree(name: str, tree: Tree, num: int | None = None) -> Images:
    """Image files, each decoded as it is (`decode.stored`).

    UserError for an empty tree, and for files that are no images (all of them counted, the first named).
    """
    if not tree.names:
        raise UserError(f"{name} has no image files in it")
    names = [tree.names[k] for k in spread(len(tree.names), num)]
    seen = list(each(partial(_look, tree), names, tree.num_bytes, in_processes=True))
    bad = [(file, fault) for file, fault in zip(names, seen, strict=True) if isinstance(fault, str)]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(names)} files cannot be used, the first: {tree.place(bad[0][0])}: {bad[0][1]}"
        )
    digests = [header.sha256 for header in seen]
    found = {
        "count": len(names),
        "sizes": {f"{w}x{h}": count for (w, h), count in Counter(header.size for header in seen).most_common()},
        "modes": dict(Counter(header.mode for header in seen).most_common()),
        "formats": dict(Counter(header.format for header in seen).most_common()),
        "lossy": sum(header.format in LOSSY for header in seen),
        "duplicates": len(names) - len(set(digests)),
    }
    num_bytes = {file: header.num_bytes for file, header in zip(names, seen, strict=True)}

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        return each(partial(_decode, tree), [names[k] for k in index], num_bytes.__getitem__, in_processes=True)

    return Images(name, len(names), digest_of(digests, {}), read, found)


def _look(tree: Tree, name: str) -> Header | str:
    return look(tree.read(name))


def _decode(tree: Tree, name: str) -> np.ndarray:
    return stored(tree.read(name), tree.place(name))
