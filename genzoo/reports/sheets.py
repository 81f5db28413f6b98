"""Walls of images as pictures inside a page, one a part, within a budget of bytes."""

import base64
import io
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from PIL import Image

from genzoo.reports.pictures import Wall

BUDGET = 3_300_000  # bytes of all pictures together; a third more in the page, which stays below 5 MB
MAX_SIDE = 128  # pixels of an image in a wall: larger ones are shown smaller
QUALITY = 88


@dataclass
class Sheet:
    """One part of a wall as a data: URI; columns x rows images."""

    part: str
    uri: str
    columns: int
    rows: int
    is_map: bool


def sheets(walls: list[Wall]) -> tuple[list[list[Sheet]], list[int], str]:
    """For each wall its sheets and how many of its images they show, and a note on what was done to stay in the budget.

    As PNG where that fits, else as WebP, else with half, a quarter, ... of the images of walls without rows.
    """
    share, lossy = 1, False
    while True:
        nums = [len(wall) if wall.rows else max(8, len(wall) // share) for wall in walls]
        nums = [min(num, len(wall)) for num, wall in zip(nums, walls, strict=True)]
        made = [_sheets(wall, num, lossy) for wall, num in zip(walls, nums, strict=True)]
        size = sum(len(sheet.uri) * 3 // 4 for group in made for sheet in group)
        if size <= BUDGET or share > 64:
            break
        share, lossy = (share, True) if not lossy else (share * 2, True)
    notes = []
    if any(max(next(iter(wall.parts.values())).shape[1:3]) > MAX_SIDE for wall in walls):
        notes.append(f"images are shown at {MAX_SIDE} pixels")
    if lossy:
        notes.append(f"pictures on this page are compressed (WebP, quality {QUALITY}); those in panels/ are exact")
    return made, nums, "; ".join(notes)


def _sheets(wall: Wall, num: int, lossy: bool) -> list[Sheet]:
    columns = ceil(sqrt(num))
    rows = ceil(num / columns)
    return [
        Sheet(part, uri(tiled(images[:num], columns), lossy), columns, rows, part in wall.maps)
        for part, images in wall.parts.items()
    ]


def tiled(images: np.ndarray, columns: int) -> Image.Image:
    """uint8 n h w 3 -> one picture, no gaps; images larger than MAX_SIDE are made smaller."""
    n, h, w, _ = images.shape
    rows = ceil(n / columns)
    grey = bool((images[..., 0] == images[..., 1]).all() and (images[..., 0] == images[..., 2]).all())
    sheet = Image.new("L" if grey else "RGB", (columns * w, rows * h))
    for k, image in enumerate(images):
        sheet.paste(Image.fromarray(image[..., 0] if grey else image), (k % columns * w, k // columns * h))
    if max(h, w) > MAX_SIDE:
        factor = MAX_SIDE / max(h, w)
        sheet = sheet.resize((columns * round(w * factor), rows * round(h * factor)), Image.Resampling.LANCZOS)
    return sheet


def uri(picture: Image.Image, lossy: bool) -> str:
    """A picture inside the page."""
    file = io.BytesIO()
    if lossy:
        picture.save(file, format="WEBP", quality=QUALITY, method=4)
    else:
        picture.save(file, format="PNG", optimize=True)
    kind = "webp" if lossy else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
