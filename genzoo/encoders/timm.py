"""Any timm backbone as the encoder."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from genzoo.backbones import create, pretrained_cfg, weights_file
from genzoo.config import Config
from genzoo.errors import UserError, reason, suggestion
from genzoo.layers import padded
from genzoo.parts import Shape


class TimmEncoder(nn.Module):
    """A timm backbone by name, with or without pretrained weights; b c h w -> b features, pooled, or a map b f h' w'.

    Images go in as they are, in [0, 1]: with pretrained weights, colour images are normalised by the weights' own mean
    and std. A size that the backbone does not take is bordered with zeros up to multiples of 32. Any part is built
    untrained: a run calls `load_pretrained` before its first step, and never again.
    """

    class Config(Config):
        model: str = Field("resnet18", description="timm model name, such as resnet18 or convnext_tiny.fb_in1k")
        pretrained: bool = Field(False, description="start from timm's weights, fetched once when training begins")
        weights: Path | None = Field(
            None, description="file of the pretrained weights (safetensors or state_dict); null: timm's"
        )
        out: Literal["vector", "map"] = Field("vector", description="pooled features, or a map of them")
        reduction: int | None = Field(
            None, ge=1, le=64, description="out: map: image pixels, along a side, to one of the map's; null: most"
        )

        @model_validator(mode="before")
        @classmethod
        def _weights_mean_pretrained(cls, values: dict) -> dict:
            return {"pretrained": True, **values} if isinstance(values, dict) and values.get("weights") else values

        @model_validator(mode="after")
        def _options_fit(self):
            if self.weights is not None and not self.pretrained:
                raise ValueError("weights are of a pretrained backbone: pretrained: true, or no weights")
            if self.reduction is not None and self.out != "map":
                raise ValueError("reduction is of a map: out: map")
            return self

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        import timm  # seconds to import: only where it is used

        channels, height, width = in_shape
        if not timm.is_model(config.model):
            raise UserError(
                f"encoders/timm: timm {timm.__version__} has no model '{config.model}'"
                f"{suggestion(config.model, timm.list_models())} (`timm.list_models()` lists them)"
            )
        mean, std = (0.0,), (1.0,)
        if config.pretrained and channels == 3:
            known = pretrained_cfg(config.model)
            mean, std = known.mean, known.std
        self.config = config
        self.options = {"in_chans": channels, **self._out()}
        self.size, self.out_shape = self._fitting(channels, height, width)
        self.backbone = create(config.model, self.size, **self.options)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _made(self.backbone, padded((x - self.mean) / self.std, *self.size))

    @classmethod
    def fetch(cls, config: Config) -> None:
        """Have the pretrained weights at hand; UserError says which file to put where."""
        if config.pretrained:
            weights_file(config.model, config.weights)

    def load_pretrained(self) -> None:
        """Take the pretrained weights on, where the options ask for them. UserError when they do not fit."""
        model = self.config.model
        if not self.config.pretrained:
            return
        path = weights_file(model, self.config.weights)
        try:
            with torch.random.fork_rng([]):  # what is drawn later does not depend on this
                # With its classes first, and strictly: without, timm would load whatever keys happen to fit.
                whole = create(model, self.size, path, in_chans=self.options["in_chans"])
                if self.config.out == "map":
                    whole = create(model, self.size, path, **self.options)
                else:
                    whole.reset_classifier(0)
            self.backbone.load_state_dict(whole.state_dict())
        except UserError:
            raise
        except Exception as error:  # whatever is wrong with the file
            raise UserError(f"encoders/timm: {model} cannot start from {path}: {reason(error)}") from error

    def _out(self) -> dict:
        """timm's options for what comes out: no classes, or the map of one stage alone."""
        if self.config.out == "vector":
            return {"num_classes": 0}
        with torch.device("meta"), torch.random.fork_rng([]):
            info = create(self.config.model, 224, features_only=True).feature_info
        index = dict(zip(info.reduction(), info.out_indices, strict=True))
        wanted = max(index) if self.config.reduction is None else self.config.reduction
        if wanted not in index:
            raise ValueError(f"{self.config.model} has maps of reduction {', '.join(map(str, index))}, not of {wanted}")
        return {"features_only": True, "out_indices": (index[wanted],)}

    def _fitting(self, *in_shape: int) -> tuple[tuple[int, int], Shape]:
        """The size nearest to the images' that the backbone takes, and the shape it then makes."""
        channels, *size = in_shape
        for sides in (tuple(size), tuple(-(-side // 32) * 32 for side in size)):
            try:
                with torch.device("meta"), torch.random.fork_rng([]), torch.no_grad():
                    net = create(self.config.model, sides, **self.options).eval()
                    return sides, tuple(_made(net, torch.zeros(2, channels, *sides)).shape[1:])
            except Exception as error:  # each of timm's networks fails in a way of its own
                refused = error
        raise ValueError(f"{self.config.model} does not run on {size[0]}x{size[1]} images: {reason(refused)}")


def _made(net: nn.Module, x: Tensor) -> Tensor:
    """What timm's network makes: pooled features, or the one map of a list, in the order b c h w."""
    made = net(x)
    if not isinstance(made, list):
        return made
    return made[0].permute(0, 3, 1, 2) if getattr(net, "output_fmt", None) == "NHWC" else made[0]
