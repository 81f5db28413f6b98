"""Networks of timm and their pretrained weights: the file found or fetched once, read without running any code."""

import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.cache import cache_dir
from genzoo.errors import UserError, reason, suggestion

FILE = "model.safetensors"  # in each of timm's repositories


def create(model: str, size: int | tuple[int, int], weights: Path | None = None, **options: Any) -> nn.Module:
    """timm's network for images of that size, untrained, or with the weights of a file; nothing is downloaded."""
    import timm  # seconds to import: only where it is used

    if weights is not None:
        overlay = {"state_dict": read_weights(weights), "custom_load": False}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    try:  # transformers want the image size, convolutional networks refuse the argument
        return timm.create_model(model, img_size=size, **options)
    except TypeError:
        return timm.create_model(model, **options)


def pretrained_cfg(model: str):
    """timm's record of a pretrained network; UserError when there is none of that name."""
    import timm

    names = timm.list_pretrained()
    if not timm.is_model(model) or ("." in model and model not in names):
        raise UserError(
            f"timm {timm.__version__} has no pretrained network '{model}'{suggestion(model, names)} "
            "(`timm.list_pretrained()` lists them)"
        )
    return timm.models.get_pretrained_cfg(model)


def weights_file(model: str, weights: Path | None) -> Path:
    """The file of the weights: the one given, the one in the cache, or timm's, downloaded once by the hub's client."""
    if weights is not None:
        path = weights.expanduser()
        if not path.is_file():
            raise UserError(f"there is no file of weights at {path.absolute()}")
        return path
    repository = pretrained_cfg(model).hf_hub_id
    path = cache_dir() / "weights" / f"{model}.safetensors"
    if path.is_file():
        return path
    place = f"put them at {path}, or name the file as the option `weights`"
    if not repository:
        raise UserError(f"timm has no repository of weights for {model}: {place}")
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(repository, FILE)
    if isinstance(found, str):
        return Path(found)
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()  # the client would try for half a minute
        return Path(hf_hub_download(repository, FILE))
    except Exception as error:  # the client raises some twenty kinds
        raise UserError(
            f"the weights of {model} cannot be downloaded ({reason(error)}); fetch "
            f"{constants.ENDPOINT}/{repository}/resolve/main/{FILE} and {place}"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors alone, never pickled code."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state.get("state_dict", state)
    except Exception as error:  # whatever the file holds
        raise UserError(f"{path} is no safetensors file and no state_dict: {reason(error)}") from error
