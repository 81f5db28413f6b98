"""The features that "FID" means: the 2015 InceptionV3 of TensorFlow, through clean-fid's TorchScript file."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.cache import cache_dir, download
from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.features.images import resize

URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
WEIGHTS_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"


class Inception(nn.Module):
    """The 2048 pooled features of InceptionV3 at 299x299, as clean-fid's mode "clean" takes them.

    Szegedy et al., "Rethinking the Inception Architecture" (arXiv 1512.00567); Parmar et al., "On Aliased Resizing"
    (CVPR 2022).
    """

    class Config(Config):
        weights: Path | None = Field(
            None, description="the TorchScript file inception-2015-12-05.pt; null: the verified download in the cache"
        )

    dim = 2048
    size = 299

    def __init__(self, config: Config):
        super().__init__()
        path = _weights_file(config)
        digest = _sha256(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what the published file is
                self.layers = torch.jit.load(path, map_location="cpu").eval().layers
        except (RuntimeError, AttributeError) as error:
            raise UserError(f"{path} is not the TorchScript InceptionV3 of clean-fid: {error}") from error
        self.requires_grad_(False)
        self.protocol = {
            "network": "InceptionV3 2015-12-05 (clean-fid)",
            "weights_sha256": digest,
            "size": self.size,
            "resize": "antialiased bicubic, not rounded",
            "mode": "clean",
        }
        if digest != WEIGHTS_SHA256:
            self.protocol["note"] = "other weights than the published ones: not comparable with any published FID"

    @classmethod
    def fetch(cls, config: Config) -> None:
        _weights_file(config)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        chunk = 32 if images.device.type == "cpu" else len(images)
        return torch.cat([self._features(part) for part in images.split(chunk)])

    def _features(self, images: Tensor) -> Tensor:
        x = (resize(images, self.size) - 128) / 128
        return self.layers(x.contiguous(memory_format=torch.channels_last)).flatten(1)


def _weights_file(config: Inception.Config) -> Path:
    if config.weights is not None:
        path = config.weights.expanduser()
        if not path.is_file():
            raise UserError(f"there is no Inception file at {path.absolute()}; download it from {URL}")
        return path
    path = cache_dir() / "weights" / "inception-2015-12-05.pt"
    if not path.exists():
        try:
            download([URL], path, f"sha256:{WEIGHTS_SHA256}")
        except OSError as error:
            raise UserError(
                f"the Inception weights cannot be downloaded ({error}); "
                f"put {URL} (sha256 {WEIGHTS_SHA256[:8]}...) at {path}, or name the file as the option `weights`"
            ) from error
    elif _sha256(path) != WEIGHTS_SHA256:
        raise UserError(f"{path} is damaged (its sha256 is not {WEIGHTS_SHA256}): delete it, and it is fetched again")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
