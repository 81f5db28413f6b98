"""`folder`: your own images, in any tree of folders or a zip of one."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from genzoo.data.files import Root
from genzoo.data.square import SquareConfig, SquareImages, decode_all, draw, read_from
from genzoo.errors import UserError
from genzoo.images.tree import SUFFIXES, Tree

log = logging.getLogger(__name__)

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")  # of testA, test_b and TEST-2017 the first one is "test"


class Folder(SquareImages):
    """Images of any size and mode: the central square, resized with antialiasing (bicubic).

    A tree with a `train` folder is split by its `train`, `test` and `val` folders (`val` alone serves as test);
    any other tree is split by a hash of the paths below `root`, so that adding images moves no old one to the other
    side. In a zip, the folders around everything do not count: packed with or without them, the split is the same.
    """

    class Config(SquareConfig):
        root: Root | None = Field(None, description="folder of images, nested as you like, or a zip of one")
        test_fraction: float = Field(0.1, gt=0, lt=1, description="share of test images where no folder says which")

    def locate(self) -> dict:
        if self.config.root is None:
            raise UserError("data.root is not set: give the folder (or zip) of your images, data.root=PATH")
        self.tree = Tree(self.config.root, SUFFIXES)
        self.tree.refuse_empty()
        self.files, rule = split_files(self.tree.names, self.config.test_fraction, self.config.root)
        self.splits = tuple(self.files)
        return {
            **self.tree.identity(),
            "split": rule,
            "processing": self.processing,
            "num_images": {split: len(names) for split, names in self.files.items()},
        }

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        log.info("%s: %s: %s", self.config.root, split, self.tree.told(self.files[split]))
        if split == self.splits[0] and self.tree.passed_over:
            log.info("%s: passed over: %s", self.config.root, self.tree.passed_over)

        def images(first: int, skipped: list[str] | None) -> Iterator[np.ndarray]:
            files = self.tree.files(self.files[split][first:])
            return decode_all(files, self.image_shape, skipped, max_pixels=self.config.max_pixels)

        return read_from(self, split, start, images)


def split_files(names: list[str], test_fraction: float, root: Path) -> tuple[dict[str, list[str]], str]:
    """The names (sorted, with slashes) by split, and the rule that was applied, in words."""
    paths = [name.split("/") for name in names]
    depth = 0  # of the folders around everything, which zips often have; `train` is not one of them
    for one, other in zip(min(paths)[:-1], max(paths)[:-1], strict=False):
        if one != other or one.lower() in SPLIT_FOLDERS:
            break
        depth += 1
    found: dict[str, list[str]] = {}
    for name, parts in zip(names, paths, strict=True):
        split = SPLIT_FOLDERS.get(parts[depth].lower()) if len(parts) > depth + 1 else None
        found.setdefault(split or "", []).append(name)
    if "train" not in found:
        if len(found) > 1 or "" not in found:
            raise UserError(
                f"{root} has a folder for {' and '.join(filter(None, found))} images but none called 'train'"
            )
        return _by_hash(names, depth, test_fraction, root)
    ignored = f"; {len(found[''])} files beside them ignored" if "" in found else ""
    if "test" not in found and "valid" not in found:
        files, rule = _by_hash(found["train"], depth, test_fraction, root)
        return files, f"the folder 'train', {rule}{ignored}"
    if "test" not in found:
        found["test"] = found.pop("valid")
    return {split: found[split] for split in ("train", "valid", "test") if split in found}, f"by folders{ignored}"


def _held_out(names: list[str], depth: int) -> str | None:
    """A folder inside whose first or last word says that it is for tests: test_a, but not testudo."""
    for parent in sorted({name.rpartition("/")[0] for name in names}):
        folders = parent.split("/")
        for number, folder in enumerate(folders[depth:], start=depth + 1):
            words = WORD.findall(folder)
            if {SPLIT_FOLDERS.get(word.lower()) for word in (*words[:1], *words[-1:])} & {"valid", "test"}:
                return "/".join(folders[:number])
    return None


def _by_hash(names: list[str], depth: int, test_fraction: float, root: Path) -> tuple[dict[str, list[str]], str]:
    """depth: of the folders around everything."""
    if len(names) < 2:
        raise UserError(f"{root} has one image: at least two are needed, one to train on and one to test on")
    if held_out := _held_out(names, depth):
        raise UserError(
            f"{root} has no folders train and test side by side, but its folder '{held_out}' seems to hold test "
            "images, which would be mixed into the training images: name the folders train and test and set data.root "
            "to the folder around them (or to the one folder to use); if it is something else, rename it"
        )
    if root.is_dir():  # a folder beside one that was the only one moves none of its images
        depth, path = 0, "path below root"
    else:
        path = "path"
    draws = {name: draw("/".join(name.split("/")[depth:])) for name in names}
    ranked = sorted(names, key=draws.__getitem__)
    num_test = sum(value < test_fraction for value in draws.values())
    num_test = min(max(num_test, 1), len(names) - 1)  # neither side of a small set is left empty
    files = {"train": sorted(ranked[num_test:]), "test": sorted(ranked[:num_test])}
    return files, f"test where sha256({path}) / 2^256 < {test_fraction}"
