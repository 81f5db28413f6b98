"""A picture of the samples that are nearest to training images, beside those images."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from genzoo.evaluation.drawing import panel
from genzoo.evaluation.extraction import side_of
from genzoo.evaluation.images import Images
from genzoo.evaluation.work import Work
from genzoo.neighbors import nearest
from genzoo.parts import Features


def draw_neighbors(
    samples: Images, training: Images, features: Features, path: Path, *, columns: int, k: int, work: Work
) -> Tensor:
    """A panel of the samples that are nearest to training images, each over its k nearest; returns their distances.

    The most suspicious sample first. All images are shown at the size of the first sample, in colour.
    """
    rows = [side_of(side, features, True, work).features for side in (samples, training)]
    k = min(k, training.num)
    distances, indices = nearest(*rows, k)
    first = distances[:, 0].argsort(stable=True)[:columns]
    shown = _pick(samples, first)
    size = shown[0].shape[1:]
    drawn = {"sample": shown} | {f"nearest {n + 1}": _pick(training, indices[first, n]) for n in range(k)}
    panel({name: torch.stack([_resized(image, size) for image in images]) for name, images in drawn.items()}, path,
          columns=columns)  # fmt: skip
    return distances[first, 0]


def _pick(images: Images, index: Tensor) -> list[Tensor]:
    """uint8 c h w of each index."""
    wanted, position = index.unique(return_inverse=True)
    found = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images.read(wanted.numpy())]
    return [found[k] for k in position]


def _resized(image: Tensor, size: torch.Size) -> Tensor:
    """uint8 c h w -> float 3 *size in [0, 1]."""
    x = image[None, :3].float().expand(-1, 3, -1, -1) / 255
    return F.interpolate(x, size=tuple(size), mode="bilinear", antialias=True).clamp(0, 1)[0]
