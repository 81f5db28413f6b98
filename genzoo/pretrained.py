"""Weights from elsewhere: fetched and taken on when the training of a run begins, and never again.

Every part is built untrained. One that can start from such weights has a class method `fetch(config)`, to have them at
hand before data is read, and a method `load_pretrained()`. All that follows (going on, samples, scores, `genzoo.load`)
takes what was trained from the run's own checkpoints, so that a run stays whole without a network or the file.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from torch import nn

from genzoo.config import Config
from genzoo.registry import imported


def fetch(settings: Any) -> None:
    """Have the weights that parts of these settings ask for; UserError says which file to put where."""
    parts = list(imported())  # what settings name has been imported
    for config in _configs(settings):
        for part in parts:
            if getattr(part, "Config", None) is type(config) and hasattr(part, "fetch"):
                part.fetch(config)


def load(module: nn.Module) -> None:
    """Give every part within its pretrained weights, where its options ask for them."""
    parts = imported()
    for part in module.modules():
        if type(part) in parts and hasattr(part, "load_pretrained"):
            part.load_pretrained()


def _configs(settings: Any) -> Iterator[Config]:
    if isinstance(settings, list | tuple):
        for item in settings:
            yield from _configs(item)
    elif isinstance(settings, BaseModel):
        if isinstance(settings, Config):
            yield settings
        for name in type(settings).model_fields:
            yield from _configs(getattr(settings, name))
