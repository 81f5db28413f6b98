"""The pictures a run leaves: what its model makes of real images and of each sampler's latents."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.images import Spread, read
from genzoo.evaluation.panels import grid, panel
from genzoo.evaluation.posteriors import draw, evaluating
from genzoo.parts import Sampler

COLUMNS, NUM_GRID = 12, 96  # images in a row of a panel, and in a grid


@torch.no_grad()
def write_panels(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    images: np.ndarray,
    folder: Path,
    *,
    seed: int,
    device: torch.device | str,
) -> None:
    """reconstruction.png, and NAME.png and NAME_grid.png for each (fitted) sampler. images: uint8 n h w c."""
    with evaluating(model):
        x = read(Spread(images, COLUMNS), slice(COLUMNS)).to(device).float() / 255
        panel(model.decode(model.encode(x).mean), folder / "reconstruction.png", x=x, columns=COLUMNS)
        for name, sampler in samplers.items():
            z = draw(model, sampler, NUM_GRID, seed).to(device)
            composition = model.decode(z)
            panel(composition, folder / f"{name}.png", columns=COLUMNS)
            grid(composition.image, folder / f"{name}_grid.png")


@torch.no_grad()
def samples(
    model: nn.Module,
    sampler: Sampler,
    num: int,
    *,
    seed: int,
    device: torch.device | str,
    part: str = "y",
    batch_size: int = 100,
) -> Iterator[Tensor]:
    """Batches b c h w in [0, 1] of the part `part` of `num` samples: the very images that `evaluate` scores."""
    z = draw(model, sampler, num, seed)
    with evaluating(model):
        for latents in z.split(batch_size):
            composition = model.decode(latents.to(device))
            parts = {"y": composition.image, **composition.parts}
            if part not in parts:
                raise UserError(f"the model makes no part '{part}' (parts: {', '.join(parts)})")
            yield parts[part].cpu()
