"""Pictures of what a model makes, as PNG files: panels of a composition's parts, grids, neighbours, single images."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.evaluation.generate import draw, evaluating
from genzoo.evaluation.images import Spread, quantize, read
from genzoo.files import replacing
from genzoo.parts import Composition, Sampler

COLUMNS, NUM_GRID = 12, 96  # images in a row of a run's panels, and in a grid
CELL = 64  # pixels a small image is enlarged to, at least
GAP = 2
PAPER, INK = (255, 255, 255), (40, 40, 40)

# Dark blue to pale yellow through green, with lightness rising evenly (OKLCh: L 0.20 to 0.96, hue 290 to 110 degrees)
# so that it also reads in grey.
COLOR_MAP = ("#1a0044", "#132467", "#004975", "#006a84", "#048b91", "#1bae96", "#70cb92", "#b4e491", "#f6f998")


def panel(
    parts: Composition | Mapping[str, Tensor], path: Path, x: Tensor | None = None, columns: int = COLUMNS
) -> None:
    """A labelled row for each part - the input x where there is one, maps, branches, the image y - a column a sample.

    parts: a composition, or name -> b 1|c h w in [0, 1]; x: b c h w. A part with one channel beside coloured ones is a
    map, drawn through a colour map. The file appears complete or not at all.
    """
    if isinstance(parts, Composition):
        parts = {**parts.parts, "y": parts.image}
    rows = {**({} if x is None else {"x": x}), **parts}
    color = max(images.shape[1] for images in rows.values()) > 1
    strips = [_tile(_pixels(images[:columns], color), columns=columns) for images in rows.values()]

    cell = strips[0].height
    font = ImageFont.load_default(size=max(11, min(cell // 5, 18)))
    margin = GAP * 4 + round(max(font.getlength(name) for name in rows))
    sheet = Image.new("RGB", (margin + strips[0].width + GAP, GAP + len(rows) * (cell + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, (name, strip) in enumerate(zip(rows, strips, strict=True)):
        top = GAP + k * (cell + GAP)
        sheet.paste(strip, (margin, top))
        draw.text((margin - GAP * 2, top + cell / 2), name, fill=INK, font=font, anchor="rm")
    _save(sheet, path)


def grid(images: Tensor, path: Path, columns: int = 16) -> None:
    """Images b c h w in [0, 1] (or uint8), side by side."""
    _save(_tile(_pixels(images, color=False), columns), path)


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
        panel(model.decode(model.encode(x).mean), folder / "reconstruction.png", x=x)
        for name, sampler in samplers.items():
            composition = model.decode(draw(model, sampler, NUM_GRID, seed).to(device))
            panel(composition, folder / f"{name}.png")
            grid(composition.image, folder / f"{name}_grid.png")


def save_png_samples(images: Iterable[Tensor], folder: Path) -> None:
    """Write batches b c h w in [0, 1] (or uint8) as 000000.png, 000001.png, ...

    UserError when the folder holds anything already: old samples must not be scored with new ones.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: samples go into a folder of their own")
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(image for batch in images for image in _arrays(batch)):
        _save(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image), folder / f"{k:06d}.png")


def _arrays(images: Tensor) -> np.ndarray:
    """b c h w -> uint8 b h w c."""
    images = images if images.dtype == torch.uint8 else quantize(images)
    return images.permute(0, 2, 3, 1).cpu().numpy()


def _pixels(images: Tensor, color: bool) -> np.ndarray:
    """b c h w -> uint8 b h w 3; one channel through the colour map when the other parts have colours."""
    pixels = _arrays(images)
    if pixels.shape[3] == 2:
        pixels = pixels[..., :1]
    if pixels.shape[3] > 1:
        return pixels[..., :3]
    return color_map()[pixels[..., 0]] if color else pixels.repeat(3, axis=3)


def color_map() -> np.ndarray:
    """The colours of the 256 values of a map, uint8 256 3."""
    anchors = np.array([[int(code[k : k + 2], 16) for k in (1, 3, 5)] for code in COLOR_MAP])
    at = np.linspace(0, 255, len(anchors))
    return np.stack([np.interp(np.arange(256), at, anchors[:, k]) for k in range(3)], axis=1).round().astype(np.uint8)


def _tile(pixels: np.ndarray, columns: int) -> Image.Image:
    """uint8 b h w 3 -> rows of images with thin gaps, small ones enlarged by a whole factor."""
    num, h, w, _ = pixels.shape
    factor = max(1, -(-CELL // max(h, w)))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = h * factor, w * factor
    columns = min(columns, num)
    rows = -(-num // columns)
    sheet = Image.new("RGB", (columns * (w + GAP) - GAP, rows * (h + GAP) - GAP), PAPER)
    for k, image in enumerate(pixels):
        sheet.paste(Image.fromarray(image), (k % columns * (w + GAP), k // columns * (h + GAP)))
    return sheet


def _save(image: Image.Image, path: Path) -> None:
    with replacing(path, synced=False) as file:  # there may be thousands, and they can be drawn again
        image.save(file, format="PNG")
