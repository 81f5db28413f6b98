"""The features that "FID" means: the 2015 InceptionV3 of TensorFlow, as clean-fid runs it."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import IO, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.cache import cache_dir, download
from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.features.images import color, resize
from genzoo.files import sha256

TORCHSCRIPT = (
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)
PYTORCH_FID = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
# TorchScript is a program, which may write any file: of other sha256 than the published one, none is run but those that
# whoever starts the process vouches for (`genzoo --trust-weights SHA256`); no recipe and no run can.
trusted: set[str] = set()
SIZE = 299
RESIZES = {
    "clean": "antialiased bicubic, not rounded",
    "legacy_pytorch": "bilinear without antialiasing (pytorch-fid)",
    "legacy_tensorflow": "inside the network, as TensorFlow 1 (the original FID)",
}


class Inception(nn.Module):
    """The 2048 pooled features of InceptionV3, exactly as clean-fid takes them in its three modes.

    Szegedy et al., "Rethinking the Inception Architecture" (arXiv 1512.00567); Parmar et al., "On Aliased Resizing"
    (CVPR 2022).
    """

    class Config(Config):
        mode: Literal["clean", "legacy_pytorch", "legacy_tensorflow"] = Field(
            "clean", description="how images are resized, and which port of the network; clean is what FID means here"
        )
        weights: Path | None = Field(
            None,
            description="inception-2015-12-05.pt, or for legacy_pytorch pt_inception-2015-12-05-6726825d.pth; "
            "null: the verified download in the cache",
        )

    def __init__(self, config: Config):
        super().__init__()
        path = _weights_file(config)
        content = path.read_bytes()  # once: what is hashed is what is loaded
        digest = hashlib.sha256(content).hexdigest()
        self.mode = config.mode
        if self.mode != "legacy_pytorch" and digest not in {TORCHSCRIPT[1], *trusted}:
            raise UserError(
                f"{path} is not the published Inception file (its sha256 is {digest}, not {TORCHSCRIPT[1]}): "
                f"TorchScript is a program, and others are not run. Download it from {TORCHSCRIPT[0]}; "
                f"or, if you made this file yourself, run `genzoo --trust-weights {digest} ...`"
            )
        try:
            self.net = (_pytorch_fid_net if self.mode == "legacy_pytorch" else _torchscript_net)(io.BytesIO(content))
            self.requires_grad_(False).eval()
            self.dim: int = self(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).shape[1]
        except Exception as error:  # whatever is wrong with a file the user names
            raise UserError(f"{path} is not the InceptionV3 that mode {self.mode} runs: {error}") from error
        self.protocol = {
            "network": "InceptionV3 2015-12-05 (clean-fid)",
            "weights_sha256": digest,
            "mode": self.mode,
            "size": SIZE,
            "resize": RESIZES[self.mode],
        }
        if digest != _published(config)[1]:
            self.protocol["note"] = "other weights than the published ones: not comparable with any published FID"

    @classmethod
    def fetch(cls, config: Config) -> None:
        _weights_file(config)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.of_resized(self.resized(part)) for part in _split(images)])

    @torch.inference_mode()
    def resized(self, images: Tensor) -> Tensor:
        match self.mode:
            case "clean":
                return resize(images, SIZE).sub(128).div_(128)
            case "legacy_tensorflow":
                return color(images)  # at its own size: the network resizes
            case "legacy_pytorch":
                x = F.interpolate(color(images).float(), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
                return 2 * (x.clamp(0, 255).expand(-1, 3, -1, -1) / 255) - 1

    @torch.inference_mode()
    def of_resized(self, x: Tensor) -> Tensor:
        return torch.cat([self._features(part) for part in _split(x)])

    def _features(self, x: Tensor) -> Tensor:
        match self.mode:
            case "clean":
                features = self.net.layers(x.contiguous(memory_format=torch.channels_last))
            case "legacy_tensorflow":
                features = self.net(x.float().expand(-1, 3, -1, -1), return_features=True)
            case "legacy_pytorch":
                features = self.net(x.contiguous(memory_format=torch.channels_last))
        return features.flatten(1)


def _split(x: Tensor) -> tuple[Tensor, ...]:
    """On a CPU, batches of 16: larger ones are no faster and take more memory (1.1 GB here, 1.6 GB at 32)."""
    return x.split(16 if x.device.type == "cpu" else max(len(x), 1))


def _torchscript_net(file: IO[bytes]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what the published file is
        return torch.jit.load(file, map_location="cpu")


def _pytorch_fid_net(file: IO[bytes]) -> nn.Module:
    """pytorch-fid's port: torchvision's InceptionV3 with the pooling of TensorFlow's, up to the pooled features."""
    import torchvision
    from cleanfid import inception_pytorch as port

    net = torchvision.models.inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    net.Mixed_5b = port.FIDInceptionA(192, pool_features=32)
    net.Mixed_5c = port.FIDInceptionA(256, pool_features=64)
    net.Mixed_5d = port.FIDInceptionA(288, pool_features=64)
    net.Mixed_6b = port.FIDInceptionC(768, channels_7x7=128)
    net.Mixed_6c = port.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6d = port.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6e = port.FIDInceptionC(768, channels_7x7=192)
    net.Mixed_7b = port.FIDInceptionE_1(1280)
    net.Mixed_7c = port.FIDInceptionE_2(2048)
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    net.dropout, net.fc = nn.Identity(), nn.Identity()
    net.transform_input = False
    return net


def _published(config: Inception.Config) -> tuple[str, str]:
    """Address and sha256 of the file that the mode needs."""
    return PYTORCH_FID if config.mode == "legacy_pytorch" else TORCHSCRIPT


def _weights_file(config: Inception.Config) -> Path:
    url, digest = _published(config)
    if config.weights is not None:
        path = config.weights.expanduser()
        if not path.is_file():
            raise UserError(f"there is no Inception file at {path.absolute()}; download it from {url}")
        return path
    path = cache_dir() / "weights" / url.rpartition("/")[2]
    if not path.exists():
        try:
            download([url], path, f"sha256:{digest}")
        except OSError as error:
            raise UserError(
                f"the Inception weights cannot be downloaded ({error}); put that file (sha256 {digest}) at {path}, "
                "or name it as the option `weights`"
            ) from error
    elif sha256(path) != digest:
        raise UserError(f"{path} is damaged (its sha256 is not {digest}): delete it, and it is fetched again")
    return path
