"""`hf`: a column of images of a Hugging Face dataset, from the hub or from this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from genzoo.data.addresses import PROTOCOLS, only_listed
from genzoo.data.square import SquareConfig, SquareImages, decode_all, read_from
from genzoo.errors import UserError, quoted
from genzoo.images.tree import MAX_FILE_BYTES, Encoded


class HF(SquareImages):
    """Images of a `datasets` dataset, undecoded by it: the central square, resized with antialiasing (bicubic).

    With `streaming` nothing but the prepared images takes disk space. Code that a dataset brings along is never run,
    and what its files name as an image or a table is read only where it lies in the set itself.
    """

    class Config(SquareConfig):
        root: str | None = Field(None, description="name on the hub (owner/name), or a folder that `datasets` can load")
        subset: str | None = Field(None, description="configuration of the dataset, where it has several")
        revision: str | None = Field(None, description="commit, branch or tag on the hub; null: its newest")
        image: str = Field("image", description="column of the images")
        train: str = Field("train", description="split to train on; `datasets` slices like train[:90%] work, too")
        test: str = Field("test", description="split to test on")
        streaming: bool = Field(False, description="read without keeping the source; excludes slices of splits")

    def locate(self) -> dict:
        config = self.config
        if config.root is None:
            raise UserError("data.root is not set: give a name on the hub or a folder, data.root=owner/name")
        if config.train == config.test:
            raise UserError(f"data.test: '{config.test}' is what data.train is; give other images (train[90%:])")
        if whole := _overlap(config.train, config.test):
            raise UserError(
                f"data.train={config.train} and data.test={config.test} overlap: one of them has all of '{whole}'; "
                "give other images (train[:90%] and train[90%:])"
            )
        try:
            self._refuse_root(config.root)
        except ImportError as error:
            raise UserError("datasets/hf needs the package 'datasets': pip install 'genzoo[hf]'") from error
        builder = self._call("load_dataset_builder", config.root, config.subset, revision=config.revision)
        for file in (file for files in (builder.config.data_files or {}).values() for file in files):
            if not self._own(str(file)):
                raise UserError(f"data.root: {config.root} is refused: its README names {quoted(file)}, outside of it")
        known = builder.info.splits or {}
        names = {split: getattr(config, split) for split in self.splits}
        return {
            "dataset": config.root,
            "fingerprint": f"{builder.config_id} {builder.hash}",
            "processing": self.processing,
            "num_images": {split: known[name].num_examples for split, name in names.items() if name in known},
        }

    def _refuse_root(self, root: str) -> None:
        """What `datasets` would take for an address or for a format of files in the working directory."""
        from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

        address = "::" in root or ("://" in root and not root.startswith("hf://"))
        if address or root in _PACKAGED_DATASETS_MODULES:
            raise UserError(f"data.root: {quoted(root)} is neither a name on the hub (owner/name) nor a folder")

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        rows = self._rows(split)

        def images(first: int, skipped: list[str] | None) -> Iterator[np.ndarray]:
            files = (self._encoded(split, i, row) for i, row in enumerate(self._each(rows.skip(first)), start=first))
            return decode_all(files, self.image_shape, skipped, max_pixels=self.config.max_pixels)

        return read_from(self, split, start, images)

    def _rows(self, split: str) -> Any:
        import datasets

        config = self.config
        rows = self._call(
            "load_dataset",
            config.root,
            config.subset,
            split=getattr(config, split),
            revision=config.revision,
            streaming=config.streaming,
        )
        features = rows.features or {name: None for name in next(self._each(islice(rows, 1)), {})}
        if not isinstance(features.get(config.image), datasets.Image):
            kinds = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
            raise UserError(f"data.image: {config.root} has no column '{config.image}' of images (it has: {kinds})")
        with self._loading():
            return rows.select_columns([config.image]).cast_column(config.image, datasets.Image(decode=False))

    def _encoded(self, split: str, number: int, row: dict) -> Encoded:
        value = row[self.config.image] or {}
        place = f"{self.config.root}, split {getattr(self.config, split)}, row {number}"
        if value.get("bytes") is None and value.get("path"):
            place = f"{place} ({value['path']})"
            try:
                return Encoded(place, self._content(value["path"]))
            except Exception as error:  # each kind of store and archive raises its own
                return Encoded(place, error)
        return Encoded(place, value.get("bytes") or b"")

    def _content(self, path: str) -> bytes:
        """A file that a row names; of a zip in the set, one member: zip://MEMBER::ZIP. Raises ValueError, OSError."""
        import fsspec

        member, chained, outer = path.rpartition("::")
        if chained and (not member.startswith("zip://") or "::" in member):
            raise ValueError("chained addresses are refused")
        if not self._own(outer):
            raise ValueError("it lies outside the set")
        if "://" not in outer:
            file = Path(self.config.root, outer)
            if not file.is_file():
                raise FileNotFoundError(f"No such file: {file}")
            outer = str(file)
        with only_listed(), fsspec.open(f"{member}{chained}{outer}", "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)

    def _own(self, path: str) -> bool:
        """Whether that is in the set: below its folder, at its address on the hub, or where `datasets` keeps copies."""
        import datasets
        from huggingface_hub.constants import HF_HUB_CACHE

        protocol, address, _ = path.partition("://")
        name = self.config.root.removeprefix("hf://datasets/")
        if address:
            if ".." in path.split("/") or "::" in path or protocol not in PROTOCOLS:
                return False
            return path.startswith((f"hf://datasets/{name}@", f"hf://datasets/{name}/"))
        folder = Path(HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}")
        kept = (folder, Path(datasets.config.DOWNLOADED_DATASETS_PATH), Path(datasets.config.EXTRACTED_DATASETS_PATH))
        file = Path(self.config.root, path).resolve()
        return any(file.is_relative_to(place.resolve()) for place in (Path(self.config.root), *kept))

    def _call(self, function: str, *arguments: Any, **options: Any) -> Any:
        """A function of `datasets`; what it complains of becomes a UserError."""
        import datasets

        with self._loading():
            return getattr(datasets, function)(*arguments, **options)

    def _each(self, rows: Any) -> Iterator[dict]:
        with self._loading():  # a damaged file may show only here
            yield from rows

    @contextmanager
    def _loading(self) -> Iterator[None]:
        try:
            with only_listed():
                yield
        except UserError:
            raise
        except Exception as error:  # `datasets`, the hub, pyarrow and YAML have each their own
            raise UserError(f"data.root: {self.config.root} cannot be loaded: {error}") from error


def _overlap(train: str, test: str) -> str | None:
    """The split, if any, that one of the two takes whole and the other too, or a slice of it."""
    one, other = train.split("+"), test.split("+")
    for whole, parts in [*((name, other) for name in one), *((name, one) for name in other)]:
        if "[" not in whole and whole in {part.partition("[")[0] for part in parts}:
            return whole
    return None
