"""A side that a run generates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genzoo.config import Config
from genzoo.evaluation.images import Images, from_array, quantize
from genzoo.run_folder import RunFolder
from genzoo.sampling import drawn


def data_of(folder: Path, plugins: Sequence[str]) -> Config:
    """What the run was trained on."""
    return RunFolder(folder).recipe(plugins=plugins).data


def generated(
    name: str, folder: Path, num: int, sampler: str | None, part: str, seed: int, plugins: Sequence[str]
) -> Images:
    made, about = drawn(folder, num, sampler=sampler, part=part, seed=seed, plugins=plugins)
    batches = [quantize(batch).permute(0, 2, 3, 1).numpy() for batch in made]
    images = from_array(name, np.concatenate(batches))
    images.about = about
    return images
