"""Image files -> uint8 arrays: decoding with guards, cropping, resizing, on all cores."""

import io
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from genzoo.data.files import CorruptFile, Tree
from genzoo.parts import Shape

log = logging.getLogger(__name__)
T, R = TypeVar("T"), TypeVar("R")

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
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
MAX_PIXELS = 50_000_000
PILLOW_MAX_PIXELS = 2 * 89_478_485  # Pillow refuses more by itself

LARGE_BYTES = 16 << 20  # files and decoded images above this are handled one at a time, whatever the number of cores
_one_large = threading.RLock()
CHUNK = 4  # images a task
REMEDY = "(repair or remove it; data.skip_corrupt=true leaves such files out)"

Crop = Callable[[int, int], tuple[int, int, int, int]]  # (width, height) -> (left, upper, right, lower)


def center_square(width: int, height: int) -> tuple[int, int, int, int]:
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side


def load_image(
    tree: Tree, name: str, shape: Shape, crop: Crop, resample: Image.Resampling, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """One file as uint8 h w c: turned upright, cropped, resized with antialiasing to `shape` (c, h, w).

    Grey values of 16 bits, or a TIFF's 12, are scaled to 8; where the shape has no alpha channel, transparent pixels
    are laid on white. Raises CorruptFile, with the file's name, whatever is wrong with it.
    """
    channels, height, width = shape
    with ExitStack() as stack:
        if tree.num_bytes(name) > LARGE_BYTES:
            stack.enter_context(_one_large)
        data = tree.read(name)
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            num_pixels = image.width * image.height
            if num_pixels > max_pixels:
                raise ValueError(f"it has {image.width}x{image.height} pixels, more than {max_pixels} (max_pixels)")
            if 4 * num_pixels > LARGE_BYTES:
                stack.enter_context(_one_large)
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
            raise CorruptFile(
                f"{tree.place(name)} is not an image of the kinds {', '.join(FORMATS)} {REMEDY}"
            ) from error
        except Exception as error:  # Pillow's readers raise some ten kinds on bad files
            raise CorruptFile(f"{tree.place(name)} cannot be used: {error} {REMEDY}") from error


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image = _to_8_bits(image)
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers of unknown range (mode {image.mode}); convert it to 8 bits")
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
    image = Image.fromarray(((grey * 255 + largest // 2) // largest).astype(np.uint8))
    return image if opaque is None else Image.merge("LA", (image, opaque))


def decode_all(
    files: Iterable[T],
    load: Callable[[T], np.ndarray],
    skipped: list[str] | None = None,
    name: Callable[[T], str] = str,
) -> Iterator[np.ndarray]:
    """`load` every file on all cores: uint8 arrays n h w c, of a few images each, in the order of the files.

    Only the few files in work are in memory. With a list `skipped`, corrupt files are left out and their names are
    appended to it; without, the first one raises CorruptFile.
    """

    def load_some(some: list[T]) -> list[tuple[str, np.ndarray | CorruptFile]]:
        return [(name(file), attempt(load, file)) for file in some]

    todo = iter(files)
    for found in in_order(load_some, iter(lambda: list(islice(todo, CHUNK)), [])):
        images = [image for place, image in found if usable(image, place, skipped)]
        if images:
            yield np.stack(images)


def attempt(load: Callable[[T], np.ndarray], file: T) -> np.ndarray | CorruptFile:
    """The image, or what is wrong with its file."""
    try:
        return load(file)
    except CorruptFile as error:
        return error


def usable(image: np.ndarray | CorruptFile, name: str, skipped: list[str] | None) -> bool:
    """False for a corrupt file, once its name is in `skipped`; without such a list, its error is raised."""
    if not isinstance(image, CorruptFile):
        return True
    if skipped is None:
        raise image
    log.warning("skipped: %s", image)
    skipped.append(name)
    return False


def read_from(
    dataset: Any, split: str, start: int, read: Callable[[int, list[str] | None], Iterator[np.ndarray]]
) -> Iterator[np.ndarray]:
    """What `read(first, skipped)` gives from the file number `first` on, without the first `start` images.

    With `skip_corrupt` among the dataset's options, the split's notes then name the files that are in `skipped`.
    """
    skipped: list[str] | None = [] if dataset.config.skip_corrupt else None
    first, left = (start, 0) if skipped is None else (0, start)  # the corrupt ones are not known without decoding
    for some in read(first, skipped):
        if len(some) > left:
            yield some[left:]
        left = max(0, left - len(some))
    dataset.notes[split] = {"skipped": skipped} if skipped else {}


def in_order(work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """`map`, on all cores, a few tasks ahead of the reader.

    Threads are enough: NumPy, Pillow and zlib release the interpreter lock while they compute, decode and unpack.
    """
    num_threads = min(16, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(num_threads)
    todo = iter(tasks)
    ahead = deque(pool.submit(work, task) for task in islice(todo, num_threads + 2))
    try:
        while ahead:
            result = ahead.popleft().result()
            ahead.extend(pool.submit(work, task) for task in islice(todo, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
