"""The feature extractor that a metric names, with a protocol that tells it from every other one."""

from __future__ import annotations

from pathlib import Path

import torch

from genzoo.config import Config, build
from genzoo.parts import Features
from genzoo.registry import FEATURES


def make_extractor(config: Config, device: torch.device | str) -> Features:
    """Built, on the device; its protocol begins with its name, package and options, but for the paths of files."""
    features = build(FEATURES, config).to(device).eval()
    options = {key: value for key, value in config.model_dump().items() if not isinstance(value, Path)}
    owner = FEATURES.entries[config.name].owner
    features.protocol = {**options, **({} if owner == "genzoo" else {"package": owner}), **features.protocol}
    return features


def is_released(name: str) -> bool:
    """Whether what it makes may be kept: code of a recipe's own file or a notebook may change from run to run."""
    entry = FEATURES.entries[name]
    return entry.owner == "genzoo" or bool(entry.package)
