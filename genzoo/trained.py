"""A trained run put to use: reconstruct and encode images of one's own, decode latents, draw what the latent holds."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genzoo.budget import refuse
from genzoo.errors import UserError, quoted
from genzoo.evaluation import generate
from genzoo.evaluation.images import quantize
from genzoo.evaluation.work import Work
from genzoo.files import check_writable, replacing
from genzoo.given import Given, given
from genzoo.images.arrays import Array, open_arrays
from genzoo.loading import load
from genzoo.model import Model
from genzoo.parts import Composition
from genzoo.preparation import build_used, prepare_splits
from genzoo.progress import Progress, silent
from genzoo.run_folder import RunFolder
from genzoo.sampling import drawn

BATCH, GAP = 64, 2
NUM_SAMPLES = 12  # that are shown beside their nearest training images


@torch.inference_mode()
def reconstruct(
    folder: Path,
    images: str,
    out: Path,
    parts: Sequence[str] = ("y",),
    *,
    beside: bool = False,
    plugins: Sequence[str] = (),
    progress: Progress = silent,
) -> Given:
    """Write OUT/NAME.png for every image: decoded from the mean of its posterior.

    parts: y, or branches and maps by name; several go into a folder each. beside: one picture an image instead, the
    image as the model was given it, then the parts. Returns what was read. UserError where OUT holds anything.
    """
    model = load(folder, plugins=plugins)
    source = given(images, model.image_shape)
    _new_folder(out)
    done = 0
    for x in _loaded(source, model):
        made = _parts(model.decode(model.encode(x).mean), parts)
        shown = {part: _pixels(v) for part, v in made.items()}
        originals = _pixels(x)
        for k in range(len(x)):
            name = source.names[done + k]
            if beside:
                _save(_joined([originals[k], *(pixels[k] for pixels in shown.values())]), out / f"{name}.png")
            for part, pixels in {} if beside else shown.items():
                _save(pixels[k], (out if len(shown) == 1 else out / part) / f"{name}.png")
        done += len(x)
        progress("reconstruct", done, len(source))
    return source


@torch.inference_mode()
def encode(
    folder: Path, images: str, out: Path, *, plugins: Sequence[str] = (), progress: Progress = silent
) -> dict[str, tuple[int, ...]]:
    """Write an .npz: `names`, the posteriors' `mean` and `variance` (n *latent), `codes` where the latent has them.

    Also `run`, `checkpoint_step` and `processing`, as text and number. Returns the shape of every array.
    """
    _suffix(out, ".npz")
    check_writable(out)
    model = load(folder, plugins=plugins)
    source = given(images, model.image_shape)
    found: dict[str, list[np.ndarray]] = {"mean": [], "variance": []}
    for x in _loaded(source, model):
        posterior = model.encode(x)
        found["mean"].append(posterior.mean.float().cpu().numpy())
        found["variance"].append(posterior.variance.float().cpu().numpy())
        if getattr(model.latent, "num_codes", None):
            found.setdefault("codes", []).append(model.latent.codes(posterior.mean).cpu().numpy())
        progress("encode", sum(map(len, found["mean"])), len(source))
    arrays = {key: np.concatenate(rows) for key, rows in found.items()}
    arrays["names"] = np.array(source.names)
    about = {"run": str(folder.resolve().name), "processing": source.processing}
    if (step := RunFolder(folder).step()) is not None:  # a folder of the Hub has none
        about["checkpoint_step"] = step
    with replacing(out) as file:
        np.savez(file, **arrays, **about)
    return {key: rows.shape for key, rows in arrays.items()}


@torch.inference_mode()
def decode(
    folder: Path,
    latents: Path,
    out: Path,
    parts: Sequence[str] = ("y",),
    *,
    plugins: Sequence[str] = (),
    progress: Progress = silent,
) -> int:
    """Write OUT/NAME.png for every latent of an .npz, and return how many.

    Its array `z`, or `mean` (as `encode` writes it), or `codes`; `names`, where there are, name the files. parts: as
    `reconstruct` takes them.
    """
    model = load(folder, plugins=plugins)
    z, names = _latents(latents, model)
    _new_folder(out)
    work = Work(next(model.parameters()).device, BATCH)
    for rows, composition in generate.decode(model, z, work):
        made = {part: _pixels(v) for part, v in _parts(composition, parts).items()}
        for part, pixels in made.items():
            for name, image in zip(names[rows], pixels, strict=True):
                _save(image, (out if len(made) == 1 else out / part) / f"{name}.png")
        progress("decode", min(rows.stop, len(z)), len(z))
    return len(z)


def panels(folder: Path, out: Path | None = None, *, part: str = "y", plugins: Sequence[str] = ()) -> list[Path]:
    """Draw what the latent holds into RUN/panels (or `out`); see genzoo.reports.panels. Samples: of the first sampler.

    part: y, or a branch or map by name.
    """
    from genzoo.reports.panels import write_latent_panels

    check_writable(out := out or folder / "panels")
    recipe = RunFolder(folder).recipe(plugins=plugins)
    splits = prepare_splits(build_used(recipe), recipe)
    samples, _ = drawn(folder, NUM_SAMPLES, seed=recipe.evaluation_seed, plugins=plugins)
    model = load(folder, plugins=plugins)
    images = splits[recipe.evaluation.reference].images
    return write_latent_panels(model, torch.cat([*samples]), images, splits["train"].images, out, part=part)


def _latents(path: Path, model: Model) -> tuple[Tensor, list[str]]:
    """The latents of an .npz, float32 n *latent_shape, and a name for each."""
    _suffix(path, ".npz")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    arrays = open_arrays(path)
    has_codes = bool(getattr(model.latent, "num_codes", None))
    key = next((key for key in ("z", "mean", "codes") if key in arrays and (key != "codes" or has_codes)), None)
    if key is None:
        held = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise UserError(f"{path} has no array z or mean (it holds {held})")
    values = _read(arrays[key])
    if key == "codes":
        z = model.latent.vectors(torch.from_numpy(values.astype(np.int64)))
    else:
        z = torch.from_numpy(values.astype(np.float32)) if values.dtype.kind in "fiu" else torch.zeros(0)
    if tuple(z.shape[1:]) != tuple(model.latent_shape) or not len(z):
        wanted = " x ".join(map(str, ("n", *model.latent_shape)))
        raise UserError(
            f"{path}: the array '{key}' is {values.dtype} {values.shape}; latents of this model are {wanted}"
        )
    if not z.isfinite().all():
        raise UserError(f"{path}: the array '{key}' has values that are not finite")
    names = _names(arrays["names"]) if "names" in arrays else []
    return z, names if len(set(names)) == len(z) else [f"{k:06d}" for k in range(len(z))]


def _names(array: Array) -> list[str]:
    try:
        names = [str(name) for name in _read(array).ravel()]
    except (ValueError, SystemError) as error:  # of numbers that are no characters
        raise UserError(f"{array.place} holds no names: {error}") from None
    for name in names:
        own = Path(name)
        if not own.name or not name.isprintable() or own.is_absolute() or ".." in own.parts:
            raise UserError(f"{array.place}: {quoted(name)} is no name for a file inside the folder that is written")
    return names


def _read(array: Array) -> np.ndarray:
    num_bytes = math.prod(array.shape) * array.dtype.itemsize
    refuse(2 * num_bytes, array.place, "decode a part of it at a time")
    try:
        with np.load(array.path, allow_pickle=False) as arrays:
            return np.atleast_1d(arrays[array.key])
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{array.place} cannot be read: {error}") from error


def _loaded(source: Given, model: Model) -> Iterator[Tensor]:
    """Batches b c h w in [0, 1] on the model's device."""
    device = next(model.parameters()).device
    for images in source.batches(BATCH):
        yield torch.from_numpy(images).permute(0, 3, 1, 2).to(device).float() / 255


def _parts(made: Composition, names: Sequence[str]) -> dict[str, Tensor]:
    known = {"y": made.image, **made.parts}
    for name in names:
        if name not in known:
            raise UserError(f"the model makes no part '{name}' (parts: {', '.join(known)})")
    return {name: known[name] for name in names}


def _pixels(images: Tensor) -> np.ndarray:
    """b c h w in [0, 1] -> uint8 b h w c."""
    return quantize(images).permute(0, 2, 3, 1).cpu().numpy()


def _joined(images: list[np.ndarray]) -> np.ndarray:
    """uint8 h w c, of one or several channels, side by side with white gaps."""
    channels = max(image.shape[2] for image in images)
    whole = [image.repeat(channels, axis=2) if image.shape[2] == 1 else image for image in images]
    gap = np.full((whole[0].shape[0], GAP, channels), 255, np.uint8)
    return np.concatenate([one for image in whole for one in (gap, image)][1:], axis=1)


def _save(image: np.ndarray, path: Path) -> None:
    with replacing(path) as file:
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, format="PNG")


def _new_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder: these images go into a folder of their own")
    check_writable(out)


def _suffix(path: Path, suffix: str) -> None:
    if path.suffix != suffix:
        raise UserError(f"{path}: latents are kept in an {suffix} file")
