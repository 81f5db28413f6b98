"""The option `size` of a dataset: one number for square images, or [height, width]."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from genzoo.errors import quoted


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
