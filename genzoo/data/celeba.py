"""`celeba`: 202,599 aligned faces, from whichever copy of the set is at hand."""

import hashlib
import importlib.util
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from genzoo.cache import cache_dir
from genzoo.config import Config
from genzoo.data.files import Root
from genzoo.data.square import decode_all, read_from
from genzoo.errors import UserError
from genzoo.images.tree import Tree
from genzoo.parts import Shape

NUM_IMAGES = 202_599
LAST = {"train": 162_770, "valid": 182_637, "test": NUM_IMAGES}  # number of the last file of each official split
CROP = (25, 45, 153, 173)  # left, upper, right, lower: 128x128 around the face
IMAGE = re.compile(r"(?:.*/)?(\d{6})\.jpg")
ZIPS = ("img_align_celeba.zip", "archive.zip", "celeba-dataset.zip")
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")

LAYOUTS = """\
  img_align_celeba.zip         the official zip (or a folder that holds it)
  img_align_celeba/*.jpg       the same unpacked, nested once or twice, or torchvision's celeba/img_align_celeba
  archive.zip                  Kaggle's jessicali9530/celeba-dataset, or the folder it unpacks to
  list_eval_partition.txt|csv  beside them, if you have it (else the official ranges of file numbers are used)"""


class CelebA:
    """CelebA, aligned (Liu et al., arXiv 1411.7766): rows 45:173 and columns 25:153 of 218x178, resized to `size`.

    The resize is Pillow's bilinear with antialiasing. Splits `train`, `valid`, `test` are the official ones.
    """

    class Config(Config):
        root: Root | None = Field(None, description="zip or folder of the images; null: the cache and the usual places")
        size: int = Field(64, ge=8, le=128, description="height and width in pixels after crop and resize")
        allow_partial: bool = Field(False, description="accept a copy with fewer than its 202,599 images")
        skip_corrupt: bool = Field(False, description="leave corrupt images out, with a count, instead of refusing")

    splits = ("train", "valid", "test")

    def __init__(self, config: Config):
        self.config = config
        self.image_shape: Shape = (3, config.size, config.size)
        self.notes: dict[str, dict] = {}

    def locate(self) -> dict:
        self.tree = Tree(_find(self.config.root), (".jpg", *PARTITIONS))
        names: dict[int, str] = {}
        for name in self.tree.names:
            if match := IMAGE.fullmatch(name):
                first = names.setdefault(int(match[1]), name)
                if first != name:
                    raise UserError(
                        f"{self.tree.root} has two images of one number, {first} and {name}: "
                        "set data.root to the folder of the aligned ones, or remove the others"
                    )
        missing = sorted(set(range(1, NUM_IMAGES + 1)) - names.keys())
        if missing and not self.config.allow_partial:
            some = ", ".join(f"{number:06}.jpg" for number in missing[:5]) + ", ..." * (len(missing) > 5)
            raise UserError(
                f"{self.tree.root} lacks {len(missing):,} of CelebA's {NUM_IMAGES:,} images ({some}); "
                "unpack or copy it again, or set data.allow_partial=true to go on without them"
            )
        split_of, rule = _partition(self.tree)
        self.files: dict[str, list[str]] = {split: [] for split in self.splits}
        for number, name in sorted(names.items()):
            if number not in split_of:
                raise UserError(f"{self.tree.place(name)} is in no split of {rule}")
            self.files[split_of[number]].append(name)
        for split, files in self.files.items():
            if not files:
                raise UserError(f"{self.tree.root} has no image of the split '{split}' (by {rule})")
        return {
            **self.tree.identity(),
            "partition": rule,
            "processing": "rows 45:173, columns 25:153, Pillow bilinear (antialiased)",
            "num_images": {split: len(files) for split, files in self.files.items()},
        }

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        def images(first: int, skipped: list[str] | None) -> Iterator[np.ndarray]:
            files = self.tree.files(self.files[split][first:])
            return decode_all(files, self.image_shape, skipped, _crop, Image.Resampling.BILINEAR)

        return read_from(self, split, start, images)


def _crop(width: int, height: int) -> tuple[int, int, int, int]:
    if (width, height) != (178, 218):
        raise ValueError(f"it has {width}x{height} pixels; the aligned images have 178x218")
    return CROP


def _partition(tree: Tree) -> tuple[dict[int, str], str]:
    """Split of every file number, and where that is from."""
    texts = {name: tree.read(name) for name in tree.names if name.endswith(PARTITIONS)}
    folders = (tree.root.parent, tree.root.parent / "Eval", tree.root.parent.parent, tree.root.parent.parent / "Eval")
    paths = (folder / name for folder in folders for name in PARTITIONS)
    texts |= {str(path): path.read_bytes() for path in paths if path.is_file()}
    if not texts:
        splits = np.repeat(CelebA.splits, np.diff([0, *LAST.values()]))
        return dict(enumerate(splits.tolist(), start=1)), "official ranges of file numbers"
    name, text = next(iter(texts.items()))
    entries = re.findall(rb"(\d{6})\.jpg[\s,]+([012])\b", text)
    split_of = {int(number): CelebA.splits[int(split)] for number, split in entries}
    return split_of, f"{name} (sha256 {hashlib.sha256(text).hexdigest()[:12]})"


def _find(root: Path | None) -> Path:
    """The zip, or the folder that has the images in it."""
    downloads = cache_dir() / "downloads" / "celeba"
    roots = [root] if root else [downloads, Path("data"), Path("datasets")]
    for base in (root / below for root in roots for below in (".", "celeba", "CelebA", "Img", "CelebA/Img")):
        for name in (*ZIPS, "img_align_celeba/img_align_celeba", "img_align_celeba", "."):
            if _is_celeba(base / name):
                return base / name
    problem = "" if root else _download(downloads / ZIPS[0])
    if not root and not problem:
        return downloads / ZIPS[0]
    raise UserError(
        f"CelebA was not found. Looked in: {', '.join(str(path.absolute()) for path in roots)}.\n"
        f"Put one of these into {root.absolute() if root else downloads}, or set data.root to where it is:\n{LAYOUTS}\n"
        f"The set is at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. {problem}\n"
        "Without it, data.name=faces runs the same recipe on faces that genzoo draws."
    )


def _is_celeba(path: Path) -> bool:
    if path.is_dir():
        return any(IMAGE.fullmatch(entry.name) for entry in os.scandir(path))
    if path.name in ZIPS[1:]:  # names that any archive may have
        if not zipfile.is_zipfile(path):
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                return any(map(IMAGE.fullmatch, archive.namelist()))
        except Exception as error:  # zipfile raises some six kinds at bad directories
            raise UserError(f"{path} is damaged: {error}") from error
    return path.is_file()


def _download(target: Path) -> str:
    """Fetch the official zip from Google Drive. Returns what went wrong, as a sentence; nothing when it is there."""
    if importlib.util.find_spec("gdown") is None:
        return "With the package gdown (pip install gdown) genzoo downloads it by itself (1.4 GB)."
    from torchvision.datasets import CelebA as Source
    from torchvision.datasets.utils import download_file_from_google_drive

    file_id, md5, name = next(entry for entry in Source.file_list if entry[2] == target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            download_file_from_google_drive(file_id, folder, name, md5)
        except Exception as error:  # gdown and requests have many: no network, quota used up, changed pages
            return f"The download failed ({error})."
        os.replace(Path(folder, name), target)
    return ""
