"""The pictures a run leaves: what its model makes of real images and of each sampler's latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.images import Spread, read
from genzoo.evaluation.panels import grid, panel
from genzoo.evaluation.posteriors import evaluating
from genzoo.parts import Composition, Sampler


@torch.no_grad()
def write_panels(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    images: np.ndarray,
    folder: Path,
    *,
    seed: int,
    device: torch.device | str,
    columns: int = 12,
    num_grid: int = 96,
) -> list[Path]:
    """reconstruction.png, and NAME.png and NAME_grid.png for each (fitted) sampler. images: uint8 n h w c."""
    written = []
    with evaluating(model):
        x = read(Spread(images, columns), slice(columns)).to(device).float() / 255
        written.append(folder / "reconstruction.png")
        panel(_to_cpu(model.decode(model.encode(x).mean)), written[-1], x=x.cpu(), columns=columns)
        for name, sampler in samplers.items():
            z = sampler.sample(num_grid, torch.Generator().manual_seed(seed)).to(device)
            composition = _to_cpu(model.decode(z))
            written += [folder / f"{name}.png", folder / f"{name}_grid.png"]
            panel(composition, written[-2], columns=columns)
            grid(composition.image, written[-1])
    return written


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
    z = sampler.sample(num, torch.Generator().manual_seed(seed))
    with evaluating(model):
        for latents in z.split(batch_size):
            composition = model.decode(latents.to(device))
            parts = {"y": composition.image, **composition.parts}
            if part not in parts:
                raise UserError(f"the model makes no part '{part}' (parts: {', '.join(parts)})")
            yield parts[part].cpu()


def _to_cpu(composition: Composition) -> Composition:
    branches = {name: y.cpu() for name, y in composition.branches.items()}
    return Composition(composition.image.cpu(), branches, {name: m.cpu() for name, m in composition.maps.items()})
