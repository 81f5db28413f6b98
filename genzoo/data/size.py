"""The option `size` of a dataset: one number for square images, or [height, width]."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from genzoo.errors import quoted
from genzoo.parts import Shape


def pixels(least: int, most: int) -> Any:
    """Field type of such an option. [64, 64] is 64."""

    def parse(value: Any) -> Any:
        sides = list(value) if isinstance(value, list | tuple) and len(value) == 2 else [value]
        if not all(type(side) is int and least <= side <= most for side in sides):
            raise ValueError(
                f"expected one number or [height, width], each from {least} to {most}, not {quoted(value)}"
            )
        return sides[0] if len({*sides}) == 1 else tuple(sides)

    side = Annotated[int, Field(ge=least, le=most)]
    return Annotated[side | tuple[side, side], BeforeValidator(parse)]


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def central(shape: Shape) -> Callable[[int, int], tuple[int, int, int, int]]:
    """The crop to the proportions of `shape` (c, h, w): the largest centred box (left, upper, right, lower)."""
    _, high, wide = shape

    def crop(width: int, height: int) -> tuple[int, int, int, int]:
        if width * high > height * wide:
            box = max(1, round(height * wide / high)), height
        else:
            box = width, max(1, round(width * high / wide))
        left, upper = (width - box[0]) // 2, (height - box[1]) // 2
        return left, upper, left + box[0], upper + box[1]

    return crop
