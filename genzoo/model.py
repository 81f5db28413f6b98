"""The model: encoder -> latent -> head, wired so that no recipe repeats a size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.budget import within_memory
from genzoo.config import Strict, build, part
from genzoo.densities import StandardNormal
from genzoo.interpolation import between
from genzoo.parts import Composition, Pass, Posterior, Shape
from genzoo.registry import ENCODERS, HEADS, LATENTS, PRIORS


class ModelConfig(Strict):
    """The recipe's `model`."""

    encoder: part(ENCODERS) = {"name": "resnet"}
    latent: part(LATENTS) = {"name": "gaussian"}
    prior: part(PRIORS) | None = Field(None, description="a learned prior, trained with the model; null: the latent's")
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

    image_shape: (c, h, w). latent_shape: of one latent. prior: the learned one, None where the latent's own holds.
    """

    def __init__(self, config: ModelConfig, image_shape: Shape):
        super().__init__()
        self.image_shape = image_shape
        with within_memory():  # all of it together
            self.encoder = build(ENCODERS, config.encoder, in_shape=image_shape)
            self.latent = build(LATENTS, config.latent, in_shape=self.encoder.out_shape)
            self.head = build(HEADS, config.head, in_shape=self.latent.out_shape, image_shape=image_shape)
            self.latent_shape = self.latent.shape
            self.prior = None
            if config.prior is not None:
                self.prior = build(PRIORS, config.prior, latent_shape=self.latent_shape, image_shape=image_shape)
        if config.batch_norm_momentum is not None:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.momentum = config.batch_norm_momentum

    def forward(self, x: Tensor) -> Pass:
        """b c h w in [0, 1] -> q(z|x), one draw of it, and the composition decoded from that."""
        posterior = self.encode(x)
        z = posterior.sample()
        return Pass(posterior, z, self.decode(z))

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

    @torch.no_grad()
    def sample(self, num: int, seed: int | None = None) -> Composition:
        """`num` images drawn from the model's prior, `.image` b c h w in [0, 1]. seed: None for others each time."""
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return self.decode(self.sample_prior(num, generator).to(self._device))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Composition:
        """b c h w in [0, 1] -> what the means of their posteriors decode to. ValueError as of `encode`."""
        return self.decode(self.encode(x.to(self._device)).mean)

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, num: int) -> Composition:
        """`num` images on the way between the latents of two, a and b, c h w in [0, 1]; both ends are among them.

        Along a great circle where the prior is N(0, I), else straight. ValueError as of `encode`.
        """
        ends = self.encode(torch.stack([a, b]).to(self._device)).mean
        return self.decode(between(*ends, num, self.has_standard_normal_prior))

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def kl(self, posterior: Posterior, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats, b *any: of every element where it separates, else of the image.

        In closed form where there is one, else estimated at the draw z of q; p: the learned prior, or the latent's own.
        """
        return posterior.kl(z) if self.prior is None else posterior.log_prob(z) - self.log_prior(z)

    @property
    def has_prior(self) -> bool:
        return self.prior is not None or self.latent.prior is not None

    @property
    def has_standard_normal_prior(self) -> bool:
        return self.prior is None and isinstance(self.latent.prior, StandardNormal)

    def log_prior(self, z: Tensor) -> Tensor:
        """b *latent_shape -> log p(z), b, nats."""
        return self.latent.prior.log_prob(z) if self.prior is None else self.prior.log_prob(z, self)

    def sample_prior(self, num: int, generator: torch.Generator) -> Tensor:
        """z ~ p(z), num *latent_shape, float32 on the CPU. generator: on the CPU."""
        if self.prior is None:
            return self.latent.prior.sample(num, generator).cpu().float()
        return self.prior.sample(num, generator, self).cpu().float()


def _unfit(what: str, shape: Shape, x: Tensor) -> ValueError:
    wanted = " x ".join(map(str, ("b", *shape)))
    return ValueError(f"this model takes {what}, {wanted}; got {x.dtype} {tuple(x.shape)}")


@contextmanager
def watched(model: nn.Module, leave: Callable[[str, int, nn.Module, Any], None] | None = None) -> Iterator[list[str]]:
    """While it lasts, the list holds the kind/name of the registered parts that are running, the innermost last.

    leave(kind/name, depth, module, output) is called when one is done.
    """
    running, hooks = [], []

    def done(module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()
        if leave:
            leave(module.kind_name, len(running), module, output)

    for module in model.modules():
        if name := getattr(module, "kind_name", ""):
            hooks.append(module.register_forward_pre_hook(lambda module, inputs, name=name: running.append(name)))
            hooks.append(module.register_forward_hook(done))
    try:
        yield running
    finally:
        for hook in hooks:
            hook.remove()
