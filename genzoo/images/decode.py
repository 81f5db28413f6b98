"""One encoded image -> uint8 h w c: `upright` for training, `stored` for scores, which never share their pixels.

Training wants what the photographer saw: turned by EXIF, alpha on white. Scores want what clean-fid reads:
`convert("RGB")`, nothing turned, nothing laid on a background. What may be opened at all is decided once, for both.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from genzoo.allocator import return_freed_memory
from genzoo.errors import UserError
from genzoo.images.pixels import DEFLATE_RATIO, eight_bits
from genzoo.images.pool import BUDGET
from genzoo.images.tree import CorruptFile, Tree
from genzoo.parts import Shape

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # not all that Pillow reads: some run programs
ORIENTATION = 0x0112  # the EXIF tag, and what turns the picture upright by its value
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF tags
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
MAX_PIXELS = 50_000_000  # of an image to train on, unless an option says otherwise
MAX_SCORED_PIXELS = 100_000_000
PILLOW_MAX_PIXELS = 2 * 89_478_485  # Pillow refuses more by itself
EXPANSION = {"PNG": DEFLATE_RATIO, "PPM": 1}  # bytes of pixels that a byte of the file can stand for, where known
BITS = {"RGB": 24, "RGBA": 32, "LA": 16, "I;16": 16}  # of a pixel in such a file, at least; of all others 1
PILLOW_BYTES = 4  # of a pixel while Pillow holds it, at most
LARGE_PIXELS = 16 << 20
STRIP = 1 << 20  # pixels copied out of Pillow at a time
UNKNOWN_RANGE = "its pixels are 32-bit numbers of unknown range (mode {}); convert it to 8 bits"
REMEDY = "(repair or remove it; data.skip_corrupt=true leaves such files out)"

Crop = Callable[[int, int], tuple[int, int, int, int]]  # (width, height) -> (left, upper, right, lower)


def upright(
    data: bytes | memoryview,
    place: str,
    shape: Shape,
    crop: Crop,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """To train on: turned upright, cropped, resized with antialiasing to `shape` (c, h, w); uint8 h w c.

    Grey values of 16 bits, or a TIFF's 12, are scaled to 8; where the shape has no alpha channel, transparent pixels
    are laid on white. Raises CorruptFile, with the place, whatever is wrong with it.
    """
    channels, height, width = shape
    try:
        image = _opened(data, max_pixels)
        with BUDGET.held(PILLOW_BYTES * image.width * image.height):
            image.load()  # which turns a TIFF
            # Not ImageOps.exif_transpose: it writes all tags anew, and fails at odd ones in sound photographs.
            turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
            image = _convert(image, channels)
            if turn is not None:
                image = image.transpose(turn)
            box = crop(image.width, image.height)
            if box != (0, 0, image.width, image.height):
                image = image.crop(box)
            return np.asarray(image.resize((width, height), resample)).reshape(height, width, channels)
    except UnidentifiedImageError as error:
        raise CorruptFile(f"{place} is not an image of the kinds {', '.join(FORMATS)} {REMEDY}") from error
    except Exception as error:  # Pillow's readers raise some ten kinds on bad files
        raise CorruptFile(f"{place} cannot be used: {error} {REMEDY}") from error


def stored(data: bytes, place: str) -> np.ndarray:
    """To be scored: uint8 h w 1|3, as clean-fid reads it, but for grey of 16 bits, which `upright` scales.

    UserError, with the place, when it cannot be decoded.
    """
    try:
        image = _opened(data, MAX_SCORED_PIXELS)
        image.load()  # a TIFF has its final size only now
        if _has_16_bits(image):
            image = _to_8_bits(image).getchannel(0)
        image = image if image.mode in ("L", "RGB") else image.convert("RGB")
        pixels = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
        rows = max(1, STRIP // image.width)
        for top in range(0, image.height, rows):  # in strips: for the whole, Pillow would make two more copies
            strip = image.crop((0, top, image.width, min(top + rows, image.height)))
            pixels[top : top + rows] = np.asarray(strip).reshape(-1, *pixels.shape[1:])
        return pixels
    except Exception as error:
        raise UserError(f"{place} cannot be decoded: {error}") from error


@dataclass(frozen=True)
class Header:
    """What one file says of itself. sha256: of the file's bytes."""

    sha256: bytes
    size: tuple[int, int]  # width, height
    mode: str
    format: str
    sideways: bool  # an EXIF mark says how to turn it, which scores do not
    alpha: bool  # it has transparency, which scores drop: the colours below it count

    @property
    def num_bytes(self) -> int:
        """Of its pixels while they are decoded."""
        return PILLOW_BYTES * self.size[0] * self.size[1]


def look(data: bytes) -> Header | str:
    """The header of a file that is to be scored, or what is wrong."""
    try:
        image = _opened(data, MAX_SCORED_PIXELS)
        if image.mode in ("I", "F") and not _has_16_bits(image):
            return UNKNOWN_RANGE.format(image.mode)
        digest = hashlib.sha256(data).digest()
        return Header(digest, image.size, image.mode, image.format, _sideways(image), image.has_transparency_data)
    except UnidentifiedImageError:
        return f"no image of the formats {', '.join(FORMATS)}"
    except Exception as error:
        return str(error)


def look_at(tree: Tree, name: str) -> Header | str:
    """`look` at a file of a tree; here and not where it is called, for worker processes import no more than this."""
    return look(tree.read(name))


def stored_of(tree: Tree, name: str) -> np.ndarray:
    """`stored`, of a file of a tree."""
    return stored(tree.read(name), tree.place(name))


def _opened(data: bytes | memoryview, max_pixels: int) -> Image.Image:
    """The image with nothing but its header read; ValueError when it is larger than it may be, or can be."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    size, num_pixels = f"{image.width}x{image.height} pixels", image.width * image.height
    if num_pixels > max_pixels:
        raise ValueError(f"it has {size}, more than {max_pixels} (max_pixels)")
    if num_pixels * BITS.get(image.mode, 1) > 8 * EXPANSION.get(image.format, num_pixels) * len(data):
        raise ValueError(f"its header says {size}, and its {len(data)} bytes cannot hold them")
    if num_pixels > LARGE_PIXELS:
        return_freed_memory()
    return image


def _sideways(image: Image.Image) -> bool:
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return False  # Pillow itself turns the one, and would decode the other to look for a mark at its end
    try:
        return image.getexif().get(ORIENTATION) in UPRIGHT
    except Exception:  # odd tags do not make a sound picture a bad one
        return False


def _has_16_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if _has_16_bits(image):
        image = _to_8_bits(image)
    elif image.mode in ("I", "F"):
        raise ValueError(UNKNOWN_RANGE.format(image.mode))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels in (1, 3):
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in MODES.values():
        image = image.convert("RGB")
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _to_8_bits(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.uint32)
    clear = image.info.get("transparency")  # of a PNG: the value of the transparent pixels
    opaque = None if clear is None else Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8))
    tags = image.tag_v2 if image.format == "TIFF" else {}
    largest = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    if tags.get(PHOTOMETRIC) == 0:  # 0 is white
        grey = largest - grey
    image = Image.fromarray(eight_bits(grey, largest))
    return image if opaque is None else Image.merge("LA", (image, opaque))
