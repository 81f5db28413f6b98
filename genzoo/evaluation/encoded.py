"""Encoded splits: what samplers learn from, encoded once, without augmentation, and memory-mapped ever after.

    <run>/latents/train-latents.npy     float32 n k *latent: mean; and variance, where there is any; and a draw, where
                                        the posterior is no diagonal Gaussian, so that these two do not say all of it
                  train-codes.npy       the codes of a discrete latent, n *grid, in the smallest unsigned type
                  train-latents.json    what they were made of, and the sha256 of the file

Of other weights or images, or damaged, it is made anew. A file is complete or absent.
"""

import logging
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.densities import DiagonalGaussian
from genzoo.evaluation.generate import evaluating
from genzoo.evaluation.images import read
from genzoo.evaluation.work import Work
from genzoo.files import check_space, read_json, sha256, sync, write_json
from genzoo.parts import Posterior

log = logging.getLogger("genzoo")

FORMAT = 1  # raise it when the layout changes: older files are then made anew
Rows = Callable[[slice], np.ndarray]


def encoded(
    model: nn.Module,
    images: np.ndarray,
    learns: str,
    work: Work,
    file: Path | None = None,
    made_of: dict[str, Any] | None = None,
) -> np.ndarray:
    """uint8 n h w c -> what a sampler that learns "latents" or "codes" is given: n k *latent, or n *grid.

    file: where it is kept; None: in memory. made_of: what it depends on beside the format (JSON). All processes must
    call this; they share a file system and the work. UserError when the disk is too small.
    """
    card = {"format": FORMAT, "learns": learns, "num_images": len(images), **(made_of or {})}
    if file is None or not work.processes.of_main(work.processes.is_main and _is_whole(file, card)):
        with evaluating(model), torch.no_grad():
            rows = _latents(model, images, work) if learns == "latents" else _codes(model, images, work)
            if file is None:
                return np.concatenate([rows(part) for part in _parts(len(images), work)])
            _write(rows, len(images), work, file, card)
    return np.load(file, mmap_mode="c")


def moments(rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """n k *latent -> mean and variance, n *latent each, which are not in memory before they are touched."""
    latents = torch.from_numpy(rows)
    no_spread = torch.zeros(1).expand(latents[:, 0].shape)
    return latents[:, 0], latents[:, 1] if rows.shape[1] > 1 else no_spread


def drawn(rows: Tensor) -> Tensor:
    """A batch of them -> draws, b *latent: of a diagonal Gaussian others each time, from the global generator."""
    if rows.shape[1] == 2:
        mean, variance = rows.unbind(1)
        return mean + variance.sqrt() * torch.randn_like(mean)
    return rows[:, -1]


def _latents(model: nn.Module, images: np.ndarray, work: Work) -> Rows:
    first = _posterior(model, images, slice(0, work.batch_size), work)
    num = 2 if isinstance(first, DiagonalGaussian) else 3 if first.variance.any() else 1

    def rows(part: slice) -> np.ndarray:
        posterior = _posterior(model, images, part, work)
        made = [posterior.mean, posterior.variance]
        if num == 3:
            made.append(posterior.sample(torch.Generator(work.device).manual_seed(part.start)))
        return torch.stack(made[:num], 1).float().cpu().numpy()

    return rows


def _codes(model: nn.Module, images: np.ndarray, work: Work) -> Rows:
    dtype = np.min_scalar_type(model.latent.num_codes - 1)

    def rows(part: slice) -> np.ndarray:
        return model.latent.codes(_posterior(model, images, part, work).mean).cpu().numpy().astype(dtype)

    return rows


def _posterior(model: nn.Module, images: np.ndarray, part: slice, work: Work) -> Posterior:
    x = read(images, part).to(work.device).float().div_(255).contiguous(memory_format=torch.channels_last)
    posterior = model.encode(x)
    work.progress("encode", part.start + len(x), len(images))
    return posterior


def _parts(num: int, work: Work) -> list[slice]:
    return [slice(start, start + work.batch_size) for start in range(0, num, work.batch_size)]


def _is_whole(file: Path, card: dict[str, Any]) -> bool:
    about = read_json(file.with_suffix(".json"), "the latents are encoded anew")
    if about is None or not file.is_file() or {**about, "sha256": None} != {**card, "sha256": None}:
        return False
    if about.get("sha256") == sha256(file) and _is_array_of(file, card["num_images"]):
        return True
    log.warning("%s is damaged: the latents are encoded anew", file)
    return False


def _is_array_of(file: Path, num: int) -> bool:
    try:
        rows = np.load(file, mmap_mode="r")
        return rows.dtype.kind in "fu" and rows.ndim > 1 and len(rows) == num
    except (OSError, ValueError, EOFError):
        return False


def _write(rows: Rows, num: int, work: Work, file: Path, card: dict[str, Any]) -> None:
    """Every process writes its parts into one file, which then gets its name."""
    some, processes = rows(slice(0, 1)), work.processes
    partial, shape = file.with_suffix(".partial"), (num, *some.shape[1:])
    num_bytes = prod(shape) * some.itemsize
    if processes.is_main:
        file.parent.mkdir(parents=True, exist_ok=True)
        for stale in (file, file.with_suffix(".json"), partial):
            stale.unlink(missing_ok=True)
        check_space(file.parent, num_bytes, f"{file}: encoded latents take {{need}} and {{free}} are free; make room")
        with partial.open("wb") as out:
            np.lib.format.write_array_header_1_0(
                out, {"descr": np.lib.format.dtype_to_descr(some.dtype), "fortran_order": False, "shape": shape}
            )
            out.truncate(out.tell() + num_bytes)
    processes.all(True)  # the file is there
    start = partial.stat().st_size - num_bytes
    with partial.open("r+b") as out:
        for number, part in enumerate(_parts(num, work)):
            if processes.owns(number):
                out.seek(start + part.start * (num_bytes // num))
                out.write(np.ascontiguousarray(rows(part)))
    processes.all(True)  # every part is there
    if processes.is_main:
        sync(partial)
        digest = sha256(partial)
        partial.rename(file)
        write_json(file.with_suffix(".json"), {**card, "sha256": digest})
    processes.all(True)  # it has its name
