"""A pretrained timm network as a feature extractor: its weights found, identified and loaded, its input prepared."""

import urllib.request
from pathlib import Path

import torch
from torch import Tensor

from genzoo.cache import cache_dir
from genzoo.errors import UserError, nearest, reason
from genzoo.features.images import Normalized
from genzoo.files import sha256

FILE = "model.safetensors"  # in each of timm's repositories


class Tower(Normalized):
    """uint8 b c h w -> float32 b dim: resized to a square, normalised as the weights were trained, pooled.

    head: keep the network's own projection (CLIP's), else the pooled features before any classifier. size: of the
    square in pixels, None for the network's own. Weights are never random: they come from the file `weights`, from the
    cache, or from timm's repository on the hub, and their sha256 is in `protocol`.
    """

    def __init__(self, model: str, weights: Path | None, *, head: bool = False, size: int | None = None):
        super().__init__()
        import timm

        path = weights_file(model, weights)
        known = pretrained_cfg(model)
        size = size or known.input_size[-1]
        options = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": _state(path), "custom_load": False}}
        try:
            try:  # transformers want the image size, convolutional networks refuse the argument
                net = timm.create_model(model, img_size=size, **options)
            except TypeError:
                net = timm.create_model(model, **options)
            if not head:  # only now: asked for no classes, timm would load whatever keys happen to fit
                net.reset_classifier(0)
            self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
            self.size = size
            mean, std = (255 * torch.tensor(getattr(known, key)).view(-1, 1, 1) for key in ("mean", "std"))
            self.register_buffer("mean", mean, persistent=False)
            self.register_buffer("scale", 1 / std, persistent=False)
            self.dim: int = self(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).shape[1]
        except Exception as error:  # whatever is wrong with the file, the size or the network
            raise UserError(f"timm's {model} cannot be made from {path} at size {size}: {reason(error)}") from error
        self.protocol = {
            "network": f"timm {model}",
            "weights_sha256": sha256(path),
            "output": "projected features" if head else "pooled features",
            "size": size,
            "resize": "antialiased bicubic to a square, not rounded, not cropped",
            "normalize": f"mean {list(known.mean)}, std {list(known.std)}",
        }
        self.eval()


def pretrained_cfg(model: str):
    """timm's record of a pretrained network; UserError when there is none of that name."""
    import timm

    names = timm.list_pretrained()
    if not timm.is_model(model) or ("." in model and model not in names):
        raise UserError(
            f"timm {timm.__version__} has no pretrained network '{model}'{nearest(model, names)} "
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


def _state(path: Path) -> dict[str, Tensor]:
    """Tensors alone, never pickled code."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state.get("state_dict", state)
    except Exception as error:  # whatever the file holds
        raise UserError(f"{path} is no safetensors file and no state_dict: {reason(error)}") from error
