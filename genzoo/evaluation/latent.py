"""Diagnostics of the latent: which variables carry information, and whether their variances add up."""

import math

from torch import Tensor

from genzoo.densities import DiagonalGaussian

INACTIVE_MEAN, INACTIVE_POSTERIOR = 0.05, 0.95  # a variable is inactive below the one, or above the other
COLLAPSED = 0.05  # share of variables that are active, below which nearly nothing of an image is left
FEW_NATS = 3.0  # the least KL that tells an image from others, or a tenth a variable where there are few


def latent_diagnostics(mean: Tensor, variance: Tensor, standard_normal: bool = True) -> dict:
    """mean, variance: n *latent_shape, of the posteriors of n images.

    A variable is inactive when its mean does not move with the image, Var(mu_d) < 0.05, or when its posterior is the
    prior, E[var_d] > 0.95. The variance law says that Var(mu_d) + E[var_d] is near 1 when q(z) matches the prior
    (Asperti & Trentin, "Balancing reconstruction error and Kullback-Leibler divergence", 2020). `variables` holds both
    terms of each variable, of a map the mean over each channel. Where the prior is no standard normal, neither the
    counts nor the law mean anything: they are None. `note` says that the posterior collapsed, where it did: too few
    variables are active, or all of them together hold too few nats of an image.
    """
    mean_variance = mean.flatten(1).double().var(dim=0, correction=0)
    posterior_variance = variance.flatten(1).double().mean(dim=0)
    law = mean_variance + posterior_variance
    inactive = (mean_variance < INACTIVE_MEAN), (posterior_variance > INACTIVE_POSTERIOR)
    by_mean, by_posterior = (int(which.sum()) if standard_normal else None for which in inactive)
    num_active = int((~(inactive[0] | inactive[1])).sum())
    note = collapse(num_active, len(law), _kl(mean, variance)) if standard_normal else ""
    return {
        "num_latents": len(law),
        "inactive_by_mean_variance": by_mean,
        "inactive_by_posterior_variance": by_posterior,
        "variance_law": {"mean": float(law.mean()), "min": float(law.min()), "max": float(law.max())}
        if standard_normal
        else None,
        "variables": {
            "mean_variance": _by_variable(mean_variance, mean.shape[1:]),
            "posterior_variance": _by_variable(posterior_variance, mean.shape[1:]),
        },
        "num_images": len(mean),
        **({"note": note} if note else {}),
    }


def collapse(num_active: int, num_latents: int, kl: float) -> str:
    """What to say, and to do, where a posterior has become the prior, or nearly; else "". kl: nats per image."""
    if num_active < COLLAPSED * num_latents:
        some = f"only {num_active} of {num_latents} latent variables know" if num_active else "no latent variable knows"
        what = f"{some} anything of the image"
    elif kl < min(FEW_NATS, 0.1 * num_latents):
        what = f"its KL is {kl:.2g} nats per image, which tell no more than {math.exp(kl):.0f} kinds of image apart"
    else:
        return ""
    return (
        f"The posterior collapsed: {what}; lower objective.beta, or let it grow slowly (objective.beta_warmup=STEPS)."
    )


def _kl(mean: Tensor, variance: Tensor) -> float:
    """Of Gaussians against N(0, I), nats per image."""
    parts = zip(mean.split(1024), variance.clamp(min=1e-37).log().split(1024), strict=True)
    return sum(float(DiagonalGaussian(mu, logvar).kl(mu).sum()) for mu, logvar in parts) / len(mean)


def _by_variable(values: Tensor, shape: tuple[int, ...]) -> list[float]:
    """One number a variable, or a channel where the latent is a map."""
    return [float(f"{value:.4g}") for value in values.view(shape[0], -1).mean(dim=1).tolist()]
