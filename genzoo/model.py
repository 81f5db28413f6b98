"""The model: encoder -> latent -> head, wired so that no recipe repeats a size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Strict, build, part
from genzoo.errors import UserError, reason
from genzoo.parts import Composition, Posterior, Shape
from genzoo.registry import ENCODERS, HEADS, LATENTS, imported


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
        """b c h w in [0, 1] -> q(z|x). ValueError for images of another size or type."""
        if tuple(x.shape[1:]) != tuple(self.image_shape) or not x.is_floating_point():
            raise _unfit("floating-point images in [0, 1]", self.image_shape, x)
        return self.latent(self.encoder(x))

    def decode(self, z: Tensor) -> Composition:
        """b *latent_shape -> composition. ValueError for latents of another shape."""
        if tuple(z.shape[1:]) != tuple(self.latent_shape):
            raise _unfit("latents", self.latent_shape, z)
        return self.head(self.latent.expand(z))


def _unfit(what: str, shape: Shape, x: Tensor) -> ValueError:
    wanted = " x ".join(map(str, ("b", *shape)))
    return ValueError(f"this model takes {what}, {wanted}; got {x.dtype} {tuple(x.shape)}")


def trace(config: ModelConfig, image_shape: Shape, num: int = 2) -> dict[str, Shape]:
    """Run `num` images of zeros through the model on the meta device (no memory, no data, no arithmetic).

    Returns stage -> shape without the batch. UserError when a part refuses the size or the number of images, or makes
    another shape than it declares.
    """
    with torch.device("meta"):
        model = Model(config, image_shape)
        x = torch.zeros(num, *image_shape)
        stages: dict[str, Shape] = {}

        def stage(name: str, made: Tensor, declared: Shape) -> Tensor:
            if tuple(made.shape) != (num, *declared):
                raise UserError(f"{name} makes shape {tuple(made.shape[1:])}, but {tuple(declared)} was due")
            stages[name] = tuple(declared)
            return made

        with watched(model) as running:
            try:
                features = stage(f"encoders/{config.encoder.name}", model.encoder(x), model.encoder.out_shape)
                posterior = model.latent(features)
                running.append(name := f"latents/{config.latent.name}")  # its methods are not watched
                z = stage(name, posterior.sample(), model.latent.shape)
                expanded = stage(f"{name} expanded", model.latent.expand(z), model.latent.out_shape)
                running.pop()
                composition = model.head(expanded)
                name = f"heads/{config.head.name}"
                stage(name, composition.image, image_shape)
                for branch, image in composition.branches.items():
                    stage(f"{name} {branch}", image, image_shape)
                for part, weights in composition.maps.items():
                    channels = weights.shape[1] if weights.ndim == 4 and weights.shape[1] == 1 else image_shape[0]
                    stage(f"{name} {part}", weights, (channels, *image_shape[1:]))
            except UserError:
                raise
            except Exception as error:  # a plugin's forward may fail in any way
                part = running[-1] if running else "the model"
                message = error if isinstance(error, ValueError) else reason(error)
                images = f"{'x'.join(map(str, image_shape))} images"
                alone = " that come alone (train.batch_size / train.grad_accumulation is 1)" if num == 1 else ""
                raise UserError(f"{part} fails on {images}{alone}: {message}") from error
    return stages


@contextmanager
def watched(model: nn.Module, leave: Callable[[str, int, nn.Module, Any], None] | None = None) -> Iterator[list[str]]:
    """While it lasts, the list holds the kind/name of the registered parts that are running, the innermost last.

    leave(kind/name, depth, module, output) is called when one is done.
    """
    names, running, hooks = imported(), [], []

    def done(module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()
        if leave:
            leave(names[type(module)], len(running), module, output)

    for module in model.modules():
        if name := names.get(type(module)):
            hooks.append(module.register_forward_pre_hook(lambda module, inputs, name=name: running.append(name)))
            hooks.append(module.register_forward_hook(done))
    try:
        yield running
    finally:
        for hook in hooks:
            hook.remove()
