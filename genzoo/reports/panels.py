"""Panels of what a trained model's latent holds: ways between images, its most active variables, and what is near."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.drawing import panel
from genzoo.evaluation.generate import evaluating
from genzoo.evaluation.images import Spread, quantize, read
from genzoo.files import replacing
from genzoo.interpolation import between
from genzoo.neighbors import nearest
from genzoo.parts import Composition
from genzoo.reports.pictures import NUM_STEPS, decoded, pixels, traversal

NUM_WAYS, NUM_FRAMES, FRAME_MS = 6, 12, 80  # rows of a panel; frames of an animation from one image to the next
NUM_NEIGHBORS, BLOCK = 3, 4096
SMALLEST = 128  # pixels that an image of the animation has at least


@torch.no_grad()
def write_latent_panels(
    model: nn.Module,
    samples: Tensor,
    images: np.ndarray,
    training: np.ndarray,
    folder: Path,
    *,
    part: str,
) -> list[Path]:
    """interpolation.png and interpolation_animated.png, traversal.png, nearest.png; returns those that were written.

    samples: n c h w in [0, 1]; images, training: uint8 n h w c. part: y, or a branch or map by name.
    """
    device = next(model.parameters()).device
    files = [folder / f"{name}.png" for name in ("interpolation", "interpolation_animated", "traversal", "nearest")]
    spherical = model.has_standard_normal_prior
    with evaluating(model):
        x = read(chosen := Spread(images, NUM_WAYS + 1), slice(len(chosen))).to(device).float() / 255
        mean = model.encode(x).mean
        rows = {}
        for k in range(len(x) - 1):
            made = _part(decoded(model, between(mean[k], mean[k + 1], NUM_STEPS, spherical)), part)
            ends = [_like(x[k : k + 1], made), made, _like(x[k + 1 : k + 2], made)]
            rows[f"way {k + 1}"] = torch.cat(ends)
        panel(rows, files[0], columns=NUM_STEPS + 2)
        ways = [between(mean[k], mean[(k + 1) % len(x)], NUM_FRAMES + 1, spherical)[:-1] for k in range(len(x))]
        _animate(decoded(model, torch.cat(ways)), files[1])
        names, z, _ = traversal(model, images, mean[:1])
        if names:
            made = _part(decoded(model, z), part).split(NUM_STEPS)
            panel(dict(zip(names, made, strict=True)), files[2], columns=NUM_STEPS)
    panel(_beside_nearest(samples, training), files[3], columns=len(samples))
    return [file for file in files if names or file.name != "traversal.png"]


def _part(made: Composition, name: str) -> Tensor:
    known = {"y": made.image, **made.parts}
    if name not in known:
        raise UserError(f"the model makes no part '{name}' (parts: {', '.join(known)})")
    return known[name]


def _like(x: Tensor, made: Tensor) -> Tensor:
    """An image with as many channels as what stands beside it: a map has one."""
    return x.mean(dim=1, keepdim=True) if made.shape[1] == 1 else x


def _beside_nearest(samples: Tensor, training: np.ndarray) -> dict[str, Tensor]:
    """Rows of samples and of the training images nearest to each by the distance of their pixels, a block at a time."""
    x = quantize(samples).float().flatten(1).cpu() / 255
    distances, indices = torch.zeros(len(x), 0), torch.zeros(len(x), 0, dtype=torch.int64)
    for start in range(0, len(training), BLOCK):
        block = read(training, slice(start, start + BLOCK)).float().flatten(1) / 255
        found = nearest(x, block, min(NUM_NEIGHBORS, len(block)))
        distances = torch.cat([distances, found[0]], dim=1)
        order = distances.argsort(dim=1, stable=True)[:, :NUM_NEIGHBORS]
        indices = torch.cat([indices, found[1] + start], dim=1).gather(1, order)
        distances = distances.gather(1, order)
    rows = {"sample": samples.cpu()}
    for k in range(indices.shape[1]):
        chosen = [read(training, slice(int(row), int(row) + 1))[0] for row in indices[:, k]]
        rows[f"nearest {k + 1}"] = torch.stack(chosen).float() / 255
    return rows


def _animate(made: Composition, path: Path) -> None:
    """An animated PNG: every part of the images beside the others, y first."""
    parts = {"y": made.image, **made.parts}
    shown = {name: pixels(v, name in made.maps and v.shape[1] == 1) for name, v in parts.items()}
    side = max(made.image.shape[2:])
    factor = max(1, -(-SMALLEST // side))
    gap = np.full((made.image.shape[2], max(1, 4 // factor), 3), 255, np.uint8)
    frames = []
    for images in zip(*shown.values(), strict=True):
        row = np.concatenate([one for image in images for one in (gap, image)][1:], axis=1)
        frames.append(Image.fromarray(row.repeat(factor, axis=0).repeat(factor, axis=1)))
    with replacing(path) as file:
        frames[0].save(file, format="PNG", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
