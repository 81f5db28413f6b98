"""Weights from elsewhere: fetched and taken on when the training of a run begins, and never again.

Every part is built untrained. One that can start from such weights has a class method `fetch(config)`, to have them at
hand before data is read, and a method `load_pretrained()`. All that follows (going on, samples, scores, `genzoo.load`)
takes what was trained from the run's own checkpoints, so that a run stays whole without a network or the file.
"""

from typing import Any

from torch import nn

from genzoo.config import parts_in
from genzoo.registry import KINDS


def fetch(settings: Any) -> None:
    """Have the weights that parts of these settings ask for; UserError says which file to put where."""
    for config in parts_in(settings):
        part = KINDS[config.kind].get(config.name)
        if hasattr(part, "fetch"):
            part.fetch(config)


def load(module: nn.Module) -> None:
    """Give every part within its pretrained weights, where its options ask for them."""
    for part in module.modules():
        if hasattr(part, "kind_name") and hasattr(part, "load_pretrained"):
            part.load_pretrained()
