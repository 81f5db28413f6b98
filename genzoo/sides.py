"""What `genzoo fid A B` may name: files, a dataset's split, or what a run generates."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genzoo.config import Config, build, config_of, parse, part
from genzoo.data.store import prepare
from genzoo.errors import UserError, suggestion
from genzoo.evaluation.images import Images, digest_of, from_array, of_rows, quantize, spread
from genzoo.evaluation.statistics import Known, read_statistics
from genzoo.images.arrays import Pictures, arranged, layout_of, open_arrays, to_uint8, unfit
from genzoo.images.decode import MAX_SCORED_PIXELS, Header, look, stored
from genzoo.images.pool import each
from genzoo.images.tree import SUFFIXES, Tree
from genzoo.registry import DATASETS
from genzoo.run_folder import RunFolder
from genzoo.sampling import drawn

LOSSY = ("JPEG", "MPO", "WEBP")


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
    like = RunFolder(runs[0][0]).recipe(plugins=plugins).data if runs else None
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
        if RunFolder(folder).is_run():
            return folder, words[len(words) - behind :]
    return None


def side(
    source: Source,
    num: int | None = None,
    seed: int = 0,
    root: str | None = None,
    plugins: Sequence[str] = (),
    like: Config | None = None,
) -> Images | Known:
    """A folder or zip of images, an .npy or .npz of images or statistics, dataset:split, or RUN[:SAMPLER[:PART]].

    Or images in memory: an array or tensor (as in files: `images.arrays`), or an iterable of batches of them, each
    alone or first in a tuple. num: at most so many images (of a run: exactly so many, 10,000 by default). root: where
    the dataset's files are. plugins: files to be executed for a run (genzoo.plugin_files). like: the `data` of a run,
    whose size a dataset is prepared at. UserError says what is accepted.
    """
    if not isinstance(source, str | Path):
        return _in_memory(source, num)
    name = str(source)
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
    path = Path(name).expanduser()
    if all((path / file).is_file() for file in ("recipe.yaml", "lock.json")):
        raise UserError(f"{name} is a run without a checkpoint: there is nothing to sample from yet")
    file, colon, key = name.rpartition(":")
    if path.suffix in (".npy", ".npz") and path.is_file():
        return _from_arrays(path, None, num)
    if colon and file.endswith(".npz") and Path(file).expanduser().is_file():
        return _from_arrays(Path(file).expanduser(), key, num)
    if path.is_dir() or path.is_file():
        return from_tree(name, Tree(path, SUFFIXES), num)
    dataset, colon, split = name.partition(":")
    if colon and "/" not in dataset:
        return from_array(name, _split(dataset, split, root, like), num)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(
        f"there is no {name}{suggestion(path.name, siblings)}; each side is a folder or zip of images, an .npy or .npz "
        "of images or statistics, a run, or dataset:split such as mnist:test"
    )


def _split(dataset: str, split: str, root: str | None, like: Config | None) -> np.ndarray:
    options = {"name": dataset} | ({} if root is None else {"root": root})
    if like is not None and like.name == dataset:  # the run's own data
        options = like.model_dump(mode="json") | options
    elif like is not None:
        known = config_of(DATASETS, dataset).model_fields.keys() & {"size", "channels"}
        options |= {key: value for key, value in like.model_dump(mode="json").items() if key in known}
    config = parse(part(DATASETS), options, dataset)
    splits = prepare(build(DATASETS, config), config)
    if split not in splits:
        raise UserError(f"{dataset} has no split '{split}' (it has: {', '.join(splits)})")
    return splits[split].images


def _from_arrays(path: Path, key: str | None, num: int | None) -> Images | Known:
    """Statistics, or the only array of images in a file, of which a few megabytes are in memory at a time.

    key: which array of images it is.
    """
    arrays = open_arrays(path)
    if key is None and (known := read_statistics(path, arrays)):
        return known
    found = {name for name, array in arrays.items() if not unfit(array.dtype) and layout_of(array.shape)}
    held = ", ".join(map(str, arrays.values())) or "nothing"
    if key is None and path.suffix == ".npz" and len(found) != 1:
        if not found:
            raise UserError(f"{path} holds neither statistics (mu, sigma) nor images (it holds {held})")
        raise UserError(f"{path} holds several arrays of images ({held}): say which, {path}:{min(found)}")
    if key is not None and key not in arrays:
        raise UserError(f"{path} has no array '{key}'{suggestion(key, arrays)} (it holds {held})")
    pictures = Pictures.of(arrays[next(iter(found or arrays)) if key is None else key])
    n, h, w, _ = pictures.shape
    if not n or h * w > MAX_SCORED_PIXELS:
        raise UserError(f"{pictures.array.place} has the shape {pictures.array.shape}: no images, or too large ones")

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        first = 0
        for block in pictures.blocks():
            start, stop = np.searchsorted(index, (first, first + len(block)))
            yield from (block[k - first] for k in index[start:stop])
            first += len(block)
            if stop == len(index):
                return

    return of_rows(str(path) if key is None else f"{path}:{key}", pictures.shape, read, num)


def _in_memory(source: Source, num: int | None) -> Images:
    """All of them are kept, as uint8."""
    kind = type(source).__name__
    parts = []
    for batch in [source] if hasattr(source, "shape") else source:
        values = batch[0] if isinstance(batch, tuple | list) else batch
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        values = np.asarray(values)
        if problem := unfit(values.dtype):
            raise UserError(f"{kind} {problem}")
        if not (layout := layout_of(values.shape)) or min(values.shape) < 1:
            raise UserError(f"{kind} has the shape {values.shape}, not b h w c, b c h w or b h w of 1, 3 or 4 channels")
        parts.append(to_uint8(arranged(values, layout), kind))
    if len(sizes := {part.shape[1:] for part in parts}) != 1:
        what = "no images" if not parts else f"images of different sizes ({', '.join(map(str, sorted(sizes)))})"
        raise UserError(f"{kind} gives {what}")
    images = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return from_array(f"{kind} of {len(images)} images", images, num)


def from_tree(name: str, tree: Tree, num: int | None = None) -> Images:
    """Image files, each decoded as it is (`decode.stored`).

    UserError for an empty tree, and for files that are no images (all of them counted, the first named).
    """
    tree.refuse_empty()
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
        "folders": tree.folders(names),
        "sizes": Counter(f"{w}x{h}" for w, h in (header.size for header in seen)),
        "modes": Counter(header.mode for header in seen),
        "formats": Counter(header.format for header in seen),
        "lossy": sum(header.format in LOSSY for header in seen),
        "duplicates": len(names) - len(set(digests)),
        "sideways": sum(header.sideways for header in seen),
        "alpha": sum(header.alpha for header in seen),
        "passed over": tree.passed_over.counts,
    }
    num_bytes = {file: header.num_bytes for file, header in zip(names, seen, strict=True)}

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        return each(partial(_decode, tree), [names[k] for k in index], num_bytes.__getitem__, in_processes=True)

    return Images(name, len(names), digest_of(digests, {}), read, found)


def _look(tree: Tree, name: str) -> Header | str:
    return look(tree.read(name))


def _decode(tree: Tree, name: str) -> np.ndarray:
    return stored(tree.read(name), tree.place(name))
