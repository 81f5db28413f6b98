"""What numbers are pixels: arrays of images are b h w c, b c h w or b h w.

uint8, uint16 (scaled as grey files of 16 bits are) or floats in [0, 1] (rounded as samples are).
"""

import numpy as np

from genzoo.errors import UserError
from genzoo.parts import Shape

HALF_LEVEL = 0.5 / 255  # so little beyond [0, 1] is rounded to its ends anyway
DEFLATE_RATIO = 1032  # bytes that one packed byte can stand for, at most


def unfit(dtype: np.dtype) -> str:
    """Why numbers of this type are no pixels, in words; empty when they are."""
    if dtype.hasobject:
        return "is object, not uint8: what only a pickle can hold is never loaded; save an array of numbers"
    if dtype == np.uint8 or (dtype.kind, dtype.itemsize) == ("u", 2) or dtype.kind == "f":
        return ""
    return (
        f"is {dtype}, not uint8, uint16 or floats in [0, 1]: save values in [0, 255] as x.astype('uint8') "
        "(from floats in [0, 1]: (255 * x).round().astype('uint8'))"
    )


def layout_of(shape: tuple[int, ...], image_shape: Shape | None = None, channels: tuple[int, ...] = (1, 3, 4)) -> str:
    """The layout of images in an array of that shape, or ""; where both fit, the channels are last."""
    inner = tuple(shape[1:])
    if image_shape:
        c, h, w = image_shape
        fitting = {"b h w c": inner == (h, w, c), "b c h w": inner == (c, h, w), "b h w": inner == (h, w) and c == 1}
    else:
        fitting = {
            "b h w c": len(inner) == 3 and inner[2] in channels,
            "b c h w": len(inner) == 3 and inner[0] in channels,
            "b h w": len(inner) == 2 and inner[1] not in channels,  # h w 3 is one image rather than h grey ones
        }
    return next((layout for layout, fits in fitting.items() if fits), "")


def arranged_shape(shape: tuple[int, ...], layout: str) -> tuple[int, int, int, int]:
    """b h w c."""
    sizes = dict(zip(layout.split(), shape, strict=True))
    return sizes["b"], sizes["h"], sizes["w"], sizes.get("c", 1)


def arranged(block: np.ndarray, layout: str) -> np.ndarray:
    """b h w c."""
    if layout == "b c h w":
        return block.transpose(0, 2, 3, 1)
    return block if layout == "b h w c" else block[..., None]


def to_uint8(values: np.ndarray, place: str) -> np.ndarray:
    """Pixels of a type that is fit, of any shape. UserError for floats that are not in [0, 1], with the conversion."""
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8, copy=False)
    if values.dtype.kind == "u":
        return eight_bits(values)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{place} has values that are not finite: images in floats are in [0, 1]")
    if low < -HALF_LEVEL or high > 1 + HALF_LEVEL:
        remedy = "scale them to that"
        if low >= -1 - HALF_LEVEL and high <= 1 + HALF_LEVEL:
            remedy = "from [-1, 1], (x + 1) / 2 makes them so"
        elif low > -1 and high < 256:
            remedy = "from [0, 255], x / 255 makes them so, or x.round().astype('uint8')"
        raise UserError(f"{place} has values from {low:.4g} to {high:.4g}; images in floats are in [0, 1]: {remedy}")
    return (values.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8)


def eight_bits(values: np.ndarray, largest: int = 65535) -> np.ndarray:
    """Whole numbers in [0, largest] -> uint8, rounded: of files of 16 bits and of arrays, to train on and to score."""
    return ((values.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)
