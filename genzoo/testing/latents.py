"""Checks of latents alone: what a posterior, a prior of its own and codes state of themselves."""

import torch

from genzoo.testing.subject import DoesNotApply, Mismatch, Subject, close
from genzoo.testing.wiring import BATCH, disturbed, make

NUM_DRAWS = 1000
MAX_STANDARD_ERRORS = 6  # between an average of draws and what it should be: chance does not go so far


def sampling(subject: Subject) -> None:
    """Posterior: `sample` is a draw of the latent's shape, governed by the generator it is given"""
    part, x = make(subject)
    posterior = part(x)
    a, b, c = (posterior.sample(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    if tuple(a.shape) != (BATCH, *part.shape):
        raise Mismatch(f"a draw of shape {(BATCH, *part.shape)}", f"{tuple(a.shape)}")
    if not torch.equal(a, b):
        raise Mismatch("the same draw from the same generator state", "another one")
    if torch.equal(a, c) and posterior.variance.max() > 0:
        raise Mismatch("another draw from another generator state", "the same one: is the generator used?")


def moments(subject: Subject) -> None:
    """Posterior: draws have the `mean` and the `variance` that it states"""
    part, x = disturbed(subject)
    posterior = part(x[:1].expand(NUM_DRAWS, *x.shape[1:]))
    if getattr(posterior, "kl_is_estimate", False):
        raise DoesNotApply("its elements hang on each other: mean and variance are those given the mean of others")
    z = posterior.sample(torch.Generator().manual_seed(0)).double()
    mean, variance = posterior.mean[0].double(), posterior.variance[0].double()
    for name, stated, drawn in (("mean", mean, z), ("variance", variance, (z - mean).square())):
        standard_error = drawn.std(0) / NUM_DRAWS**0.5
        tolerance = MAX_STANDARD_ERRORS * standard_error + 1e-4 * (1 + stated.abs())  # the second: float32's rounding
        if (wrong := (drawn.mean(0) - stated).abs() > tolerance).any():
            expected = f"{NUM_DRAWS} draws with the {name} {stated[wrong][0]:.4g} that the posterior states"
            raise Mismatch(f"{expected}, give or take {tolerance[wrong][0]:.2g}", f"{drawn.mean(0)[wrong][0]:.4g}")


def own_prior(subject: Subject) -> None:
    """Prior: draws of the latent's shape by the generator alone, finite, likelier than draws twice as far out"""
    part, _ = make(subject)
    if part.prior is None:
        raise DoesNotApply("it has none")
    a, b, c = (part.prior.sample(NUM_DRAWS, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    if tuple(a.shape) != (NUM_DRAWS, *part.shape) or not torch.isfinite(a).all():
        raise Mismatch(f"finite draws of shape {(NUM_DRAWS, *part.shape)}", f"{tuple(a.shape)}")
    if not torch.equal(a, b) or torch.equal(a, c):
        raise Mismatch("draws that the generator governs, and nothing else", "others")
    if hasattr(part.prior, "log_prob") and not hasattr(part, "codes"):
        own = part.prior.log_prob(a)
        if tuple(own.shape) != (NUM_DRAWS,):
            raise Mismatch(f"a log density of shape {(NUM_DRAWS,)}", f"{tuple(own.shape)}")
        if own.mean() <= part.prior.log_prob(2 * a).mean() and own.std() > 1e-3:  # else it is uniform
            raise Mismatch("a density that is higher at its own draws than twice as far out", "a lower one")


def codes(subject: Subject) -> None:
    """Codes: int64 below num_codes; their vectors have them again; `expand` takes any z, to the nearest codes first"""
    part, x = make(subject)
    if not hasattr(part, "codes"):
        raise DoesNotApply("it is not discrete")
    z = part.eval()(x).mean
    found = part.codes(z)
    if found.dtype != torch.int64 or len(found) != BATCH or found.min() < 0 or found.max() >= part.num_codes:
        raise Mismatch(f"int64 codes in [0, {part.num_codes}), b *grid", f"{found.dtype} {tuple(found.shape)}")
    vectors = part.vectors(found)
    if not close(vectors, z):
        raise Mismatch("vectors(codes(z)) equal to the posterior's z", f"{(vectors - z).abs().max():.3g} apart")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, part.num_codes, found.shape, generator=generator)
    if not torch.equal(part.codes(part.vectors(drawn)), drawn):
        raise Mismatch("codes(vectors(c)) equal to c, for any codes", "others")
    anywhere = z + 0.1 * torch.randn(z.shape, generator=generator)
    if not close(part.expand(anywhere), part.expand(part.vectors(part.codes(anywhere)))):
        raise Mismatch("expand(z) equal to expand(vectors(codes(z)))", "other features")


def posterior_density(subject: Subject) -> None:
    """Density: log_prob of the posterior's own draws, also of every image's draw under every posterior"""
    part, x = make(subject)
    posterior = part(x)
    if not hasattr(posterior, "log_prob"):
        raise DoesNotApply("its posterior has no `log_prob`")
    z = posterior.sample(torch.Generator().manual_seed(0))
    pairs = posterior.log_prob(z.unsqueeze(1))
    if tuple(pairs.shape) != (BATCH, BATCH):
        raise Mismatch(f"shape {(BATCH, BATCH)} of draws b 1 *latent", f"{tuple(pairs.shape)}")
    if not close(pairs.diagonal(), posterior.log_prob(z)):
        raise Mismatch("log_prob(z) on the diagonal of the pairs", "something else")


CHECKS = (sampling, moments, own_prior, codes, posterior_density)
