"""What a model makes, as walls of images for a page: reconstructions, samples, traversals."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.evaluation.drawing import NUM_GRID, color_map
from genzoo.evaluation.generate import decode, encode, evaluating
from genzoo.evaluation.generate import draw as draw_latents
from genzoo.evaluation.images import Spread, quantize, read
from genzoo.evaluation.work import Work
from genzoo.parts import Composition, Sampler

NUM_RECONSTRUCTIONS, NUM_ENCODED, NUM_BESIDE = 48, 512, 12
NUM_VARIABLES, NUM_STEPS, REACH = 8, 9, 2.5  # of a traversal: rows, columns, standard deviations to each side
BATCH = 64


@dataclass
class Wall:
    """Images of one kind, each as every part shows it. rows: names of the rows, where the images stand in rows."""

    name: str
    title: str
    about: str
    parts: dict[str, np.ndarray]  # uint8 n h w 3, all of one n
    rows: list[str] = field(default_factory=list)
    maps: tuple[str, ...] = ()  # the parts that are drawn through the colour map

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))


@torch.no_grad()
def draw(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    images: np.ndarray,
    split: str,
    *,
    seed: int,
    device: torch.device | str,
) -> list[Wall]:
    """The walls of one model. images: uint8 n h w c of the split of that name; samplers: fitted ones, by name."""
    with evaluating(model):
        x = read(chosen := Spread(images, NUM_RECONSTRUCTIONS), slice(len(chosen))).to(device).float() / 255
        mean = model.encode(x).mean
        about = f"{len(x)} images of the split {split}, spread evenly over it, decoded from the mean of their posterior"
        walls = [_wall("reconstruction", "Reconstructions", about, decoded(model, mean), x=x)]
        for name, sampler in samplers.items():
            z = draw_latents(model, sampler, NUM_GRID, seed).to(device)
            about = f"{len(z)} samples, latents from the sampler {name}, seed {seed}, not selected"
            walls.append(_wall(f"sampler {name}", f"Samples: {name}", about, decoded(model, z)))
        names, z, about = traversal(model, images, mean[:1])
        if names:
            walls.append(_wall("traversal", "Traversals", about, decoded(model, z), rows=names))
    return walls


@torch.no_grad()
def beside(
    models: Mapping[str, nn.Module],
    samplers: Mapping[str, Mapping[str, Sampler]],
    images: np.ndarray,
    split: str,
    *,
    seed: int,
) -> list[Wall]:
    """Walls with a row for each of several models: the same images, and of each sampler the draws of the same seed.

    models, samplers: by the name of the run; images: uint8 n h w c, of the size that all the models take.
    """
    x = read(chosen := Spread(images, NUM_BESIDE), slice(len(chosen))).float() / 255
    made = {}
    for name, model in models.items():
        with evaluating(model):
            made[name] = decoded(model, model.encode(x.to(next(model.parameters()).device)).mean)
    about = f"the same {len(x)} images of the split {split}, spread evenly over it, decoded by each run"
    walls = [_rows("reconstruction", "Reconstructions", about, made, x)]
    for sampler in dict.fromkeys(sampler for fitted in samplers.values() for sampler in fitted):
        drawn, made = {}, {}
        for name, fitted in samplers.items():
            if sampler in fitted:
                drawn[name] = draw_latents(models[name], fitted[sampler], NUM_BESIDE, seed)
                with evaluating(models[name]):
                    made[name] = decoded(models[name], drawn[name].to(next(models[name].parameters()).device))
        first, *others = drawn.values()
        same = all(other.shape == first.shape and torch.equal(other, first) for other in others)
        about = "decoded from the same latents" if same else "each run's own latents, which are not the same"
        walls.append(_rows(f"sampler {sampler}", f"Samples: {sampler}", f"{about}, seed {seed}, not selected", made))
    return walls


def _rows(name: str, title: str, about: str, made: dict[str, Composition], x: Tensor | None = None) -> Wall:
    """A row for each model below one of the images x; crossed out where a model has no such part."""
    own = {run: _wall("", "", "", one) for run, one in made.items()}
    names = dict.fromkeys(part for wall in own.values() for part in wall.parts)
    top = [] if x is None else [pixels(x)]
    blank = _crossed_out(next(iter(own.values())).parts["y"])
    parts = {part: np.concatenate([*top, *(wall.parts.get(part, blank) for wall in own.values())]) for part in names}
    maps = tuple(part for part in names if any(part in wall.maps for wall in own.values()))
    return Wall(name, title, about, parts, [*(["x"] if top else []), *own], maps)


def _crossed_out(images: np.ndarray) -> np.ndarray:
    """Grey images with a diagonal, as many and as large as these."""
    n, h, w, _ = images.shape
    blank = np.full((n, h, w, 3), 200, np.uint8)
    across = np.arange(max(h, w))
    blank[:, across * h // max(h, w), across * w // max(h, w)] = 150
    return blank


def traversal(model: nn.Module, images: np.ndarray, start: Tensor) -> tuple[list[str], Tensor, str]:
    """Names of the most active variables of a vector, or channels of a map; latents, NUM_STEPS a name; and how they go.

    No names where the latent is codes: between two codes there is nothing. start: 1 *latent, what all else stays at.
    """
    if getattr(model.latent, "num_codes", None):
        return [], start[:0], ""
    means, _ = encode(model, Spread(images, NUM_ENCODED), Work(start.device, BATCH))
    rest = tuple(range(2, means.ndim))
    by_variable = means.mean(dim=rest) if rest else means  # of a map: its channels
    spread, center = by_variable.std(dim=0, correction=0), by_variable.mean(dim=0)
    active = spread.argsort(descending=True, stable=True)[: min(NUM_VARIABLES, len(spread))]
    z = start.repeat(len(active) * NUM_STEPS, *[1] * (start.ndim - 1))
    for row, d in enumerate(active.tolist()):
        for k, t in enumerate(torch.linspace(-REACH, REACH, NUM_STEPS).tolist()):
            place = z[row * NUM_STEPS + k, d]
            place += center[d].item() + t * spread[d].item() - place.mean()
    what = "channels of the latent map" if rest else "latent variables"
    about = (f"the {len(active)} most active {what}, one a row, from {REACH:g} standard deviations of its mean over "
             f"{len(means)} images below to {REACH:g} above; everything else as the first image has it")  # fmt: skip
    return [f"z{d} (sd {spread[d].item():.2f})" for d in active.tolist()], z, about


def decoded(model: nn.Module, z: Tensor) -> Composition:
    """What z becomes, whole."""
    made = [composition for _, composition in decode(model, z, Work(z.device, BATCH))]
    return Composition(
        torch.cat([one.image for one in made]),
        {name: torch.cat([one.branches[name] for one in made]) for name in made[0].branches},
        {name: torch.cat([one.maps[name] for one in made]) for name in made[0].maps},
    )


def _wall(
    name: str, title: str, about: str, made: Composition, x: Tensor | None = None, rows: list[str] | None = None
) -> Wall:
    parts = {"y": made.image, **({} if x is None else {"x": x}), **made.branches, **made.maps}
    maps = tuple(part for part, weights in made.maps.items() if weights.shape[1] == 1)
    return Wall(name, title, about, {part: pixels(v, part in maps) for part, v in parts.items()}, rows or [], maps)


def pixels(images: Tensor, is_map: bool = False) -> np.ndarray:
    """b c h w in [0, 1] -> uint8 b h w 3; a map through the colour map, dark blue for 0 and pale yellow for 1."""
    made = quantize(images).permute(0, 2, 3, 1).cpu().numpy()
    if is_map:
        return color_map()[made[..., 0]]
    return made.repeat(3, axis=3) if made.shape[3] == 1 else made[..., :3]
