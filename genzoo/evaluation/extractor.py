"""The feature extractor that a metric names, with a protocol that tells it from every other one."""

import json
from importlib.metadata import distribution
from pathlib import Path

import torch

from genzoo.config import Config, build
from genzoo.parts import Features
from genzoo.registry import FEATURES


def make_extractor(config: Config, device: torch.device | str) -> Features:
    """Built, on the device; its protocol begins with its name, package and options.

    But for the paths of files, named or not: their digest is in the protocol, and is what counts.
    """
    features = build(FEATURES, config).to(device).eval()
    options = {key: value for key, value in config.model_dump().items() if value is not None}
    options = {key: value for key, value in options.items() if not isinstance(value, Path)}
    owner = FEATURES.entries[config.name].owner
    features.protocol = {**options, **({} if owner == "genzoo" else {"package": owner}), **features.protocol}
    return features


def is_released(name: str) -> bool:
    """Whether what it makes may be kept: code of a recipe's own file, a notebook or an editable install may change."""
    entry = FEATURES.entries[name]
    return entry.owner == "genzoo" or (bool(entry.package) and not _is_editable(entry.package))


def _is_editable(package: str) -> bool:
    about = distribution(package).read_text("direct_url.json")
    return bool(about) and json.loads(about).get("dir_info", {}).get("editable", False)
