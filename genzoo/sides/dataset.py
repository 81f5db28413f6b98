"""A side that is a split of a dataset, prepared where it is not yet."""

import numpy as np

from genzoo.config import Config, build, config_of, parse, part
from genzoo.data.store import prepare
from genzoo.errors import UserError
from genzoo.registry import DATASETS


def split_of(dataset: str, split: str, root: str | None, like: Config | None) -> np.ndarray:
    """Its images, uint8 n h w c. like: the `data` of the run on the other side, whose size it is prepared at."""
    options = {"name": dataset} | ({} if root is None else {"root": root})
    if like is not None and like.name == dataset:  # the run's own data
        options = like.model_dump(mode="json") | options
    elif like is not None:
        known = config_of(DATASETS, dataset).model_fields.keys() & {"size", "channels"}
        options |= {key: value for key, value in like.model_dump(mode="json").items() if key in known}
    config = parse(part(DATASETS), options, dataset)
    splits = prepare(build(DATASETS, config), config)
    if split not in splits:
        raise UserError(f"{dataset} has no split '{split}' (it has: {', '.join(splits)})")
    return splits[split].images
