"""`npz`: images in a NumPy archive."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from genzoo.config import Config
from genzoo.data.files import Root, identify
from genzoo.data.size import pixels, sides
from genzoo.errors import UserError
from genzoo.images.arrays import Array, open_arrays
from genzoo.parts import Shape

# Arrays that are a split by their name, in any case: plain, Keras and MedMNIST habits.
SPLIT_KEYS = {
    "train": ("train", "x_train", "train_x", "train_images"),
    "valid": ("valid", "val", "x_valid", "x_val", "val_x", "val_images"),
    "test": ("test", "x_test", "test_x", "test_images"),
}


class NPZ:
    """uint8 images in an .npz: n h w c, n c h w or n h w; read piece by piece, whatever the size of the file.

    Arrays named `train` and `test` (also X_train, train_images, ...) are the splits. In place of `train` serves
    `images`, or the only other uint8 array of images; without `test`, it is split by a permutation (RandomState(0)).
    """

    class Config(Config):
        root: Root | None = Field(None, description="the .npz file")
        size: pixels(8, 1024) = Field(64, description="height and width of its images in pixels, or [height, width]")
        channels: int = Field(3, ge=1, le=4, description="colour channels of its images")
        test_fraction: float = Field(0.1, gt=0, lt=1, description="share of test images where there is one array")

    splits: tuple[str, ...] = ("train", "test")

    def __init__(self, config: Config):
        self.config = config
        self.image_shape: Shape = (config.channels, *sides(config.size))

    def locate(self) -> dict:
        root = self.config.root
        if root is None:
            raise UserError("data.root is not set: give the .npz file, data.root=PATH")
        if not root.is_file():
            raise UserError(f"there is no file {root.absolute()}")
        self.arrays = open_arrays(root)
        known = {key.lower(): key for key in self.arrays}
        keys = {
            split: known[next(name for name in names if name in known)]
            for split, names in SPLIT_KEYS.items()
            if not known.keys().isdisjoint(names)
        }
        if "train" not in keys:
            keys = {"train": known.get("images") or self._only_key({*keys.values()}), **keys}
        if "test" not in keys and "valid" in keys:
            keys["test"] = keys.pop("valid")
        counts = {split: self._count(self.arrays[key], f"{root}: the array '{key}'") for split, key in keys.items()}
        self.test_indices = np.zeros(0, np.int64)  # where one array holds both splits
        if "test" not in keys:
            num_images = counts["train"]
            num_test = max(1, round(self.config.test_fraction * num_images))
            self.test_indices = np.sort(np.random.RandomState(0).permutation(num_images)[:num_test])
            keys["test"] = keys["train"]
            counts = {"train": num_images - num_test, "test": num_test}
        self.keys = keys
        self.splits = tuple(keys)
        return {"files": identify([root]), "arrays": keys, "num_images": counts}

    def _only_key(self, others: set[str]) -> str:
        """The array of images that is none of the `others`."""
        found = [
            key
            for key, array in self.arrays.items()
            if array.dtype == np.uint8 and len(array.shape) == 4 and key not in others
        ]
        if len(found) == 1:
            return found[0]
        held = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in self.arrays.items()) or "nothing"
        names = ", ".join(name for names in SPLIT_KEYS.values() for name in names)
        number = "several" if found else "no"
        raise UserError(
            f"{self.config.root} has no array 'train' or 'images' and {number} uint8 arrays n h w c to train on "
            f"(it has {held}); names that are understood: {names}, images"
        )

    def _count(self, array: Array, place: str) -> int:
        """Number of images, once the array is what the options say."""
        if array.dtype != np.uint8:
            raise UserError(
                f"{place} is {array.dtype}, not uint8: save values in [0, 255] "
                "(from floats in [0, 1]: (255 * x).round().astype('uint8'))"
            )
        c, h, w = self.image_shape
        num_images, *shape = array.shape or (0,)
        if array.fortran_order:
            raise UserError(f"{place} is in Fortran order: save np.ascontiguousarray of it")
        if shape not in ([h, w, c], [c, h, w]) and not (shape == [h, w] and c == 1):
            raise UserError(
                f"{place} has the shape {array.shape}, not n h w c, n c h w (or n h w) for images of {c} x {h} x {w}: "
                "set data.size and data.channels to what it holds"
            )
        return num_images

    def read(self, split: str) -> Iterator[np.ndarray]:
        array = self.arrays[self.keys[split]]
        num_images, *shape = array.shape
        chosen = np.ones(num_images, bool)
        if len(self.test_indices):
            chosen[:] = split == "train"
            chosen[self.test_indices] = split == "test"
        c, h, w = self.image_shape
        first = 0
        for images in array.blocks():
            num = len(images)
            if shape == [c, h, w] and shape != [h, w, c]:
                images = images.transpose(0, 2, 3, 1)
            images = images.reshape(num, h, w, c)[chosen[first : first + num]]
            first += num
            if len(images):
                yield images
