"""`npz`: images in a NumPy file."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from genzoo.config import Config
from genzoo.data.files import Root, identify
from genzoo.data.size import pixels, sides
from genzoo.errors import UserError
from genzoo.images.arrays import Array, Pictures, open_arrays
from genzoo.images.pixels import layout_of, unfit
from genzoo.parts import Shape

# Arrays that are a split by their name, in any case: plain, Keras and MedMNIST habits.
SPLIT_KEYS = {
    "train": ("train", "x_train", "train_x", "train_images"),
    "valid": ("valid", "val", "x_valid", "x_val", "val_x", "val_images"),
    "test": ("test", "x_test", "test_x", "test_images"),
}


class NPZ:
    """Images in an .npz or .npy, read piece by piece, whatever the size of the file.

    They are b h w c, b c h w or b h w; uint8, uint16 (scaled to 8 bits, rounded) or floats in [0, 1] (rounded). Arrays
    named `train` and `test` (also X_train, train_images, ...) are the splits. In place of `train` serves `images`, or
    the only other array of images; without `test`, it is split by a permutation (RandomState(0)).
    """

    class Config(Config):
        root: Root | None = Field(None, description="the .npz or .npy file")
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
            raise UserError("data.root is not set: give the .npz or .npy file, data.root=PATH")
        if not root.is_file():
            raise UserError(f"there is no file {root.absolute()}")
        arrays = open_arrays(root)
        known = {key.lower(): key for key in arrays}
        keys = {
            split: known[next(name for name in names if name in known)]
            for split, names in SPLIT_KEYS.items()
            if not known.keys().isdisjoint(names)
        }
        if "train" not in keys:
            plain = known.get("images", known.get(""))  # "": of an .npy
            keys = {"train": self._only_key(arrays, {*keys.values()}) if plain is None else plain, **keys}
        if "test" not in keys and "valid" in keys:
            keys["test"] = keys.pop("valid")
        self.pictures = {split: Pictures.of(arrays[key], self.image_shape) for split, key in keys.items()}
        counts = {split: pictures.shape[0] for split, pictures in self.pictures.items()}
        self.test_indices = np.zeros(0, np.int64)  # where one array holds both splits
        if "test" not in keys:
            num_images = counts["train"]
            num_test = max(1, round(self.config.test_fraction * num_images))
            self.test_indices = np.sort(np.random.RandomState(0).permutation(num_images)[:num_test])
            keys["test"], self.pictures["test"] = keys["train"], self.pictures["train"]
            counts = {"train": num_images - num_test, "test": num_test}
        self.splits = tuple(keys)
        return {"files": identify([root]), "arrays": keys, "num_images": counts}

    def _only_key(self, arrays: dict[str, Array], others: set[str]) -> str:
        """The array of images that is none of the `others`: the only one of their size, or the only one at all."""
        found = [
            key
            for key, array in arrays.items()
            if not unfit(array.dtype) and layout_of(array.shape, channels=(1, 2, 3, 4)) and key not in others
        ]
        fitting = [key for key in found if layout_of(arrays[key].shape, self.image_shape)]
        if len(fitting or found) == 1:
            return (fitting or found)[0]
        held = ", ".join(map(str, arrays.values())) or "nothing"
        names = ", ".join(name for names in SPLIT_KEYS.values() for name in names)
        number = "several" if found else "no"
        raise UserError(
            f"{self.config.root} has no array 'train' or 'images' and {number} arrays of images to train on "
            f"(it has {held}); names that are understood: {names}, images"
        )

    def read(self, split: str) -> Iterator[np.ndarray]:
        pictures = self.pictures[split]
        chosen = np.ones(pictures.shape[0], bool)
        if len(self.test_indices):
            chosen[:] = split == "train"
            chosen[self.test_indices] = split == "test"
        first = 0
        for images in pictures.blocks():
            images, first = images[chosen[first : first + len(images)]], first + len(images)
            if len(images):
                yield images
