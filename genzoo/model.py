"""The model: encoder -> latent -> head, wired so that no recipe repeats a size."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Strict, build, part
from genzoo.errors import UserError
from genzoo.parts import Composition, Posterior, Shape
from genzoo.registry import ENCODERS, HEADS, LATENTS


class ModelConfig(Strict):
    """The recipe's `model`."""

    encoder: part(ENCODERS) = {"name": "resnet"}
    latent: part(LATENTS) = {"name": "gaussian"}
    head: part(HEADS) = {"name": "split"}
    batch_norm_momentum: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the newest batch in BatchNorm's running averages; 0.001 (Keras: 0.999) only suits runs "
        "of many thousand steps; null: as the parts were written, PyTorch's 0.1",
    )


class Model(nn.Module):
    """An autoencoder with a density on its latent.

    image_shape: (c, h, w). latent_shape: of one latent.
    """

    def __init__(self, config: ModelConfig, image_shape: Shape):
        super().__init__()
        self.image_shape = image_shape
        self.encoder = build(ENCODERS, config.encoder, in_shape=image_shape)
        self.latent = build(LATENTS, config.latent, in_shape=self.encoder.out_shape)
        self.head = build(HEADS, config.head, in_shape=self.latent.out_shape, image_shape=image_shape)
        self.latent_shape = self.latent.shape
        if config.batch_norm_momentum is not None:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.momentum = config.batch_norm_momentum

    def forward(self, x: Tensor) -> tuple[Posterior, Composition]:
        """b c h w in [0, 1] -> q(z|x), and the composition decoded from one draw of it."""
        posterior = self.encode(x)
        return posterior, self.decode(posterior.sample())

    def encode(self, x: Tensor) -> Posterior:
        """b c h w in [0, 1] -> q(z|x)."""
        return self.latent(self.encoder(x))

    def decode(self, z: Tensor) -> Composition:
        """b *latent_shape -> composition."""
        return self.head(self.latent.expand(z))


def trace(config: ModelConfig, image_shape: Shape) -> dict[str, tuple[Shape, int]]:
    """Run two images of zeros through the model on the meta device (no memory, no data, no arithmetic).

    Returns stage -> (shape without the batch, number of trainable parameters). UserError when a part refuses the size
    or makes another shape than it declares.
    """
    with torch.device("meta"):
        model = Model(config, image_shape)
        x = torch.zeros(2, *image_shape)
        stages: dict[str, tuple[Shape, int]] = {"image": (image_shape, 0)}

        def stage(name: str, part: nn.Module, made: Tensor, declared: Shape) -> Tensor:
            if tuple(made.shape) != (2, *declared):
                raise UserError(f"{name} makes shape {tuple(made.shape[1:])}, but {tuple(declared)} was due")
            stages[name] = (tuple(declared), sum(p.numel() for p in part.parameters() if p.requires_grad))
            return made

        name = f"encoders/{config.encoder.name}"
        try:
            features = stage(name, model.encoder, model.encoder(x), model.encoder.out_shape)
            name = f"latents/{config.latent.name}"
            posterior = model.latent(features)
            z = posterior.sample()
            stage(name, model.latent, posterior.mean, model.latent.shape)
            features = model.latent.expand(z)
            name = f"heads/{config.head.name}"
            composition = model.head(features)
            stage(name, model.head, composition.image, image_shape)
            for branch, image in composition.branches.items():
                stage(f"{name} {branch}", nn.Identity(), image, image_shape)
        except UserError:
            raise
        except Exception as error:  # a plugin's forward may fail in any way
            raise UserError(f"{name} fails on {'x'.join(map(str, image_shape))} images: {error}") from error
    return stages
