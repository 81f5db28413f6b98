"""The split generalised to K branches."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config, part
from genzoo.heads.branches import Branches, with_decoder
from genzoo.parts import Composition, Shape
from genzoo.registry import DECODERS


class MixtureHead(nn.Module):
    """`y = sum_k w_k * y_k` with softmax maps w; K = 2 is the split with sigma = w1.

    The last map's logit is fixed at 0, so K = 2 has exactly the split's channels and parameters.
    """

    class Config(Config):
        num_components: int = Field(3, ge=2, le=256, description="number of branches K (trunk: shared)")
        trunk: Literal["shared", "separate"] = Field(
            "shared", description="shared: one decoder makes all maps and branches; separate: a decoder for each branch"
        )
        decoder: part(DECODERS) | None = Field(None, description="the shared decoder (trunk: shared); null: resnet")
        decoders: list[part(DECODERS)] | None = Field(
            None, min_length=2, description="K decoders, of any kinds; the first also makes the maps (trunk: separate)"
        )

        @model_validator(mode="before")
        @classmethod
        def _defaults(cls, values: dict) -> dict:
            if not isinstance(values, dict):
                return values
            if values.get("trunk", "shared") == "shared":
                return with_decoder(values)
            if isinstance(values.get("decoders"), list):
                return {"num_components": len(values["decoders"]), **values}
            return values

        @model_validator(mode="after")
        def _one_way(self):
            if self.trunk == "shared" and self.decoders:
                raise ValueError("trunk: shared takes `decoder` alone; `decoders` needs trunk: separate")
            if self.trunk == "separate" and (self.decoder or len(self.decoders or ()) != self.num_components):
                raise ValueError(f"trunk: separate needs {self.num_components} `decoders` and no `decoder`")
            return self

    def __init__(self, config: Config, in_shape: Shape, image_shape: Shape):
        super().__init__()
        decoders = [config.decoder] if config.trunk == "shared" else config.decoders
        self.branches = Branches(decoders, config.num_components, config.num_components - 1, in_shape, image_shape)

    def forward(self, features: Tensor) -> Composition:
        logits, *branches = self.branches(features)
        logits = F.pad(logits, (0, 0, 0, 0, 0, 1))  # b K h w
        branches = [y.sigmoid() for y in branches]
        # A chain of lerps is the weighted sum, bounded by the branches at every pixel also after rounding:
        # the weight of y_k against all before it is w_k / (w_1 + ... + w_k), a sigmoid of logits.
        image, total = branches[0], logits[:, :1]
        for k, y in enumerate(branches[1:], start=1):
            logit = logits[:, k : k + 1]
            image = torch.lerp(image, y, torch.sigmoid(logit - total))
            total = torch.logaddexp(total, logit)
        maps = logits.softmax(dim=1).split(1, dim=1)
        return Composition(
            image,
            branches={f"y{k}": y for k, y in enumerate(branches, start=1)},
            maps={f"w{k}": w for k, w in enumerate(maps, start=1)},
        )
