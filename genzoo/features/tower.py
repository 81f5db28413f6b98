"""A pretrained timm network as a feature extractor: its weights found, identified and loaded, its input prepared."""

from pathlib import Path

import torch

from genzoo.backbones import create, pretrained_cfg, weights_file
from genzoo.errors import UserError, reason
from genzoo.features.images import Normalized
from genzoo.files import sha256


class Tower(Normalized):
    """uint8 b c h w -> float32 b dim: resized to a square, normalised as the weights were trained, pooled.

    head: keep the network's own projection (CLIP's), else the pooled features before any classifier. size: of the
    square in pixels, None for the network's own. Weights are never random: they come from the file `weights`, from the
    cache, or from timm's repository on the hub, and their sha256 is in `protocol`.
    """

    def __init__(self, model: str, weights: Path | None, *, head: bool = False, size: int | None = None):
        super().__init__()
        path = weights_file(model, weights)
        known = pretrained_cfg(model)
        size = size or known.input_size[-1]
        try:
            net = create(model, size, path)
            if not head:  # only now: asked for no classes, timm would load whatever keys happen to fit
                net.reset_classifier(0)
            self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
            self.size = size
            mean, std = (255 * torch.tensor(getattr(known, key)).view(-1, 1, 1) for key in ("mean", "std"))
            self.register_buffer("mean", mean, persistent=False)
            self.register_buffer("scale", 1 / std, persistent=False)
            self.dim: int = self(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).shape[1]
        except UserError:
            raise
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
