"""Checks of samplers."""

import numpy as np
import torch
from torch import nn

from genzoo.densities import StandardNormal
from genzoo.errors import UserError
from genzoo.parts import Shape
from genzoo.stage_two import fit
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject

LATENTS: list[Shape] = [(4,), (3, 2, 2)]
NUM_FIT, NUM_CODES = 200, 5


def _samplers(subject: Subject) -> list[tuple[nn.Module, Shape]]:
    """Samplers for the latents it takes, not fitted."""
    wirings = [{"latent_shape": shape} for shape in LATENTS]
    if getattr(subject.registry.get(subject.name), "learns", "") == "codes":
        wirings = [{"latent_shape": LATENTS[-1], "num_codes": NUM_CODES, "grid": LATENTS[-1][1:]}]
    refusals = [subject.refusal(**wiring) for wiring in wirings]
    if all(refusals):
        raise Mismatch("a sampler that can be built for some latent shape", refusals[0])
    fitting = [wiring for wiring, refusal in zip(wirings, refusals, strict=True) if not refusal]
    made = [(subject.build(**wiring), wiring["latent_shape"]) for wiring in fitting]
    for sampler, shape in made:
        if hasattr(sampler, "bind"):
            sampler.bind(_Bound(shape))
    return made


class _Bound:
    """What a sampler may look at of a model, for latents of any shape; codes, of a map, are numbers in all channels."""

    def __init__(self, shape: Shape):
        self.latent_shape, self.latent, self.num_codes = shape, self, NUM_CODES

    def sample_prior(self, num: int, generator: torch.Generator) -> torch.Tensor:
        return StandardNormal(self.latent_shape).sample(num, generator)

    def codes(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, 0].long()

    def vectors(self, codes: torch.Tensor) -> torch.Tensor:
        return codes[:, None].float().expand(len(codes), *self.latent_shape)


def _fit(sampler: nn.Module, shape: Shape) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(NUM_FIT, *shape, generator=generator)
    if sampler.needs_fit and getattr(sampler, "learns", "latents") == "codes":
        fit(sampler, np.random.default_rng(0).integers(NUM_CODES, size=(NUM_FIT, *shape[1:])).astype(np.uint8), 0)
    elif sampler.needs_fit:
        fit(sampler, torch.stack([mean, torch.rand(mean.shape, generator=generator)], 1).numpy(), 0)


def draws(subject: Subject) -> None:
    """Samples: finite float32 on the CPU, of the latent's shape, any number of them"""
    for sampler, shape in _samplers(subject):
        _fit(sampler, shape)
        for num in (1, 17):
            z = sampler.sample(num, torch.Generator().manual_seed(0))
            if tuple(z.shape) != (num, *shape) or z.dtype != torch.float32 or z.device.type != "cpu":
                raise Mismatch(f"float32 {(num, *shape)} on the CPU", f"{z.dtype} {tuple(z.shape)} on {z.device}")
            if not torch.isfinite(z).all():
                raise Mismatch("finite samples", "some are not")


def determinism(subject: Subject) -> None:
    """Determinism: the generator alone governs the samples, the seed alone governs the fit"""
    (a, shape), (b, _) = _samplers(subject)[0], _samplers(subject)[0]
    torch.manual_seed(1)
    _fit(a, shape)
    torch.manual_seed(2)
    _fit(b, shape)
    first, again, other = (s.sample(9, torch.Generator().manual_seed(g)) for s, g in ((a, 3), (b, 3), (a, 4)))
    if not torch.allclose(first, again, rtol=1e-4, atol=1e-5):
        raise Mismatch("the same samples from the same seed and generator", f"{(first - again).abs().max():.3g} apart")
    if torch.equal(first, other):
        raise Mismatch("other samples from another generator", "the same: is the generator used?")


def state(subject: Subject) -> None:
    """State dict: everything `fit` learned is in it"""
    from safetensors.torch import load, save

    sampler, shape = _samplers(subject)[0]
    _fit(sampler, shape)
    other = _samplers(subject)[0][0]
    other.load_state_dict(load(save({name: t.contiguous() for name, t in sampler.state_dict().items()})))
    a, b = (s.sample(9, torch.Generator().manual_seed(3)) for s in (sampler, other))
    if not torch.equal(a, b):
        raise Mismatch(
            "the same samples from a new sampler with the state dict loaded", f"{(a - b).abs().max():.3g} apart"
        )


def unfitted(subject: Subject) -> None:
    """Not fitted: sampling is refused with a UserError"""
    sampler, _ = _samplers(subject)[0]
    if not sampler.needs_fit:
        raise DoesNotApply("it needs no fit")
    try:
        sampler.sample(3, torch.Generator())
    except UserError:
        return
    raise Mismatch("a UserError that says it has not been fitted", "samples")


SAMPLERS = (draws, determinism, state, unfitted)
