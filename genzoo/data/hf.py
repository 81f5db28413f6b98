"""`hf`: a column of images of a Hugging Face dataset, from the hub or from this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from pydantic import Field

from genzoo.data.encoded import Encoded, Unreadable, decode_stream
from genzoo.data.images import read_from
from genzoo.data.square import PROCESSING, SquareConfig, SquareImages
from genzoo.errors import UserError


class HF(SquareImages):
    """Images of a `datasets` dataset, undecoded by it: the central square, resized with antialiasing (bicubic).

    With `streaming` nothing but the prepared images takes disk space. Code that a dataset brings along is never run.
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
        builder = self._call("load_dataset_builder", config.root, config.subset, revision=config.revision)
        known = builder.info.splits or {}
        names = {split: getattr(config, split) for split in self.splits}
        return {
            "dataset": config.root,
            "fingerprint": f"{builder.config_id} {builder.hash}",
            "processing": PROCESSING,
            "num_images": {split: known[name].num_examples for split, name in names.items() if name in known},
        }

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        rows = self._rows(split)

        def images(first: int, skipped: list[str] | None) -> Iterator[np.ndarray]:
            files = (self._encoded(split, i, row) for i, row in enumerate(self._each(rows.skip(first)), start=first))
            return decode_stream(files, self.image_shape, self.config.max_pixels, skipped)

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
        return rows.select_columns([config.image]).cast_column(config.image, datasets.Image(decode=False))

    def _encoded(self, split: str, number: int, row: dict) -> Encoded:
        value = row[self.config.image] or {}
        place = f"{self.config.root}, split {getattr(self.config, split)}, row {number}"
        if value.get("bytes") is None and value.get("path"):
            import fsspec

            place = f"{place} ({value['path']})"
            try:
                with fsspec.open(value["path"], "rb") as file:  # also an address in an archive, zip://...::...
                    return Encoded(place, file.read())
            except Exception as error:  # each kind of store and archive raises its own
                return Unreadable(place, error)
        return Encoded(place, value.get("bytes") or b"")

    def _call(self, function: str, *arguments: Any, **options: Any) -> Any:
        """A function of `datasets`; what it complains of becomes a UserError."""
        try:
            import datasets
        except ImportError as error:
            raise UserError("datasets/hf needs the package 'datasets': pip install 'genzoo[hf]'") from error
        with self._loading():
            return getattr(datasets, function)(*arguments, **options)

    def _each(self, rows: Any) -> Iterator[dict]:
        with self._loading():  # a damaged file may show only here
            yield from rows

    @contextmanager
    def _loading(self) -> Iterator[None]:
        import datasets

        try:
            yield
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise UserError(f"data.root: {self.config.root} cannot be loaded: {error}") from error


def _overlap(train: str, test: str) -> str | None:
    """The split, if any, that one of the two takes whole and the other too, or a slice of it."""
    one, other = train.split("+"), test.split("+")
    for whole, parts in [*((name, other) for name in one), *((name, one) for name in other)]:
        if "[" not in whole and whole in {part.partition("[")[0] for part in parts}:
            return whole
    return None
