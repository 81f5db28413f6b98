"""What the datasets of images of any size share: their options, and what is done to an image."""

from collections import Counter

from pydantic import Field

from genzoo.config import Config
from genzoo.data.images import MAX_PIXELS, PILLOW_MAX_PIXELS
from genzoo.data.size import pixels, sides
from genzoo.errors import shortened
from genzoo.parts import Shape

PROCESSING = (
    "upright by EXIF, levels by the file's own bits, alpha on white (unless kept), central square, Pillow bicubic"
)


class SquareConfig(Config):
    """Options of images cut to their central square, or to the largest central part of other proportions."""

    size: pixels(8, 1024) = Field(64, description="height and width in pixels after the resize, or [height, width]")
    channels: int = Field(3, ge=1, le=4, description="1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha")
    skip_corrupt: bool = Field(False, description="leave corrupt images out, with a count, instead of refusing")
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, le=PILLOW_MAX_PIXELS, description="images of more pixels are refused before decoding"
    )


class SquareImages:
    """A dataset of such images; a subclass finds and reads them."""

    splits: tuple[str, ...] = ("train", "test")

    def __init__(self, config: SquareConfig):
        self.config = config
        height, width = sides(config.size)
        self.image_shape: Shape = (config.channels, height, width)
        self.processing = PROCESSING if height == width else PROCESSING.replace("square", f"part of {height}:{width}")
        self.notes: dict[str, dict] = {}


class Reasons:
    """Counts of what a reader passed over, by reason; of very many reasons the rarer ones together."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        reason = shortened(reason, 40)
        self._counts[reason if reason in self._counts or len(self._counts) < 20 else "of other kinds"] += 1

    def notes(self) -> dict[str, dict[str, int]]:
        """What stands in the split's card, empty where nothing was passed over."""
        return {"passed_over": dict(self._counts.most_common())} if self._counts else {}
