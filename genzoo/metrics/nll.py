"""Negative log-likelihood of images under the model."""

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Observation, Trained

Chunks = Iterator[tuple[Tensor, Tensor]]  # latents k*b *latent, the images in turn, and log p(z) - log q(z|x) of each


class NLL:
    """Negative log-likelihood of the images, nats per image, by an importance-weighted bound; bits per dimension."""

    class Config(Config):
        num_draws: int = Field(
            256,
            ge=1,
            le=2**20,
            description="draws K of the posterior an image; more tighten the bound, at their cost",
        )

    needs: ClassVar[str] = "model"
    lower: ClassVar[dict[str, bool | None]] = {"nll": True, "bits_per_dim": True}

    def __init__(self, config: Config):
        self.num_draws = config.num_draws

    def score(self, trained: Trained, seed: int) -> dict[str, dict]:
        """The mean over images of -log mean_k [p(x|z_k) p(z_k) / q(z_k|x)]: Burda et al. (arXiv 1509.00519, eq. 8).

        In expectation never below the negative log-likelihood, and nearer to it with every draw. "unconverged" says
        that the last doubling of K still moved it by more than 3 standard errors of that difference.

        Discrete latents, whose posterior is certain of its codes: where all combinations of codes are no more than K,
        the sum over them, which is exact; else the one term of it that the encoder chose, a bound no draw can tighten.

        bits_per_dim, only where p(x|z) is the mass of the 256 levels: nll / (log 2 * dimensions). "standard_error":
        over the images. UserError where posterior, prior or p(x|z) has no density.
        """
        _, x, _ = next(trained.batches("nll", seed, every=True))
        observation = observed(trained, x[:1])
        estimator, chunks, nums = _way(trained, x[:1], self.num_draws)
        bounds = torch.zeros(trained.num, len(nums), dtype=torch.float64)
        for rows, x, generator in trained.batches("nll", seed):
            weights = torch.cat([_log_likelihood(trained, z, x) + ratio for z, ratio in chunks(trained, x, generator)])
            sums = weights.double().view(-1, len(x)).logcumsumexp(0)  # k b
            bounds[rows] = torch.stack([math.log(num) - sums[num - 1] for num in nums], 1).cpu()
        bounds = trained.total(bounds)
        if not bounds.isfinite().all():
            raise UserError("the log-likelihood of some images is not finite: the training diverged")
        value, error = _mean(bounds[:, -1])
        made = {
            "value": value,
            "standard_error": error,
            "unit": "nats per image, " + ("mass of the 256 levels" if observation.on_levels else "density on [0, 1]"),
            "estimator": estimator,
            "num_draws": self.num_draws,
            "found": {
                "p(x|z)": observation.words,
                "by_draws": {str(num): float(bound) for num, bound in zip(nums, bounds.mean(0), strict=True)},
            },
        }
        if len(nums) > 1:
            moved, noise = _mean(bounds[:, -2] - bounds[:, -1])
            made["found"]["last_doubling"] = {"moved": moved, "standard_error": noise}
            if abs(moved) > 3 * noise:
                made["unconverged"] = True
        if not observation.on_levels:
            return {"nll": made}
        bits = math.log(2) * x[0].numel()
        in_bits = {"value": value / bits, "standard_error": error / bits, "unit": "bits per dimension"}
        return {"nll": made, "bits_per_dim": {**made, **in_bits}}


def observed(trained: Trained, x: Tensor) -> Observation:
    """p(x|z) as the model was trained with it; UserError where that is no density. x: a few images."""
    if not (hasattr(trained.objective, "log_prob") and hasattr(trained.objective, "observation")):
        raise UserError("the objective states no p(x|z) (`log_prob` and `observation`)")
    composition = trained.model.decode(trained.model.encode(x).mean)
    observation = trained.objective.observation(composition)
    if observation.undefined:
        raise UserError(observation.undefined)
    return observation


def _way(trained: Trained, x: Tensor, num_draws: int):
    """(estimator in words, what makes its chunks, the numbers of draws that it is read off at)."""
    model, posterior = trained.model, trained.model.encode(x)
    if hasattr(model.latent, "codes"):
        grid = model.latent.codes(posterior.mean).shape[1:]
        num = model.latent.num_codes ** grid.numel()
        if num <= num_draws:
            words = f"exact: the sum over all {num:,} combinations of codes"
            return words, lambda trained, x, generator: _all_codes(trained, x, num, grid), [num]
        return "bound: the term of the encoder's codes alone", _own_codes, [1]
    if not hasattr(posterior, "log_prob"):
        raise UserError("the latent's posterior has no density (`log_prob`)")
    if model.prior is None and not hasattr(model.latent.prior, "log_prob"):
        raise UserError("the model's prior has no density (`log_prob`)")
    nums = sorted({num_draws >> k for k in range(num_draws.bit_length())})
    words = f"importance-weighted bound of {num_draws:,} draws" if num_draws > 1 else "evidence lower bound of one draw"
    return words, lambda trained, x, generator: _draws(trained, x, generator, num_draws), nums


def _draws(trained: Trained, x: Tensor, generator: Generator, num: int) -> Chunks:
    posterior = trained.model.encode(x)
    at_once = max(1, trained.batch_size // len(x))
    for first in range(0, num, at_once):
        drawn = [posterior.sample(generator) for _ in range(min(at_once, num - first))]
        z = torch.cat(drawn)
        yield z, trained.model.log_prior(z) - torch.cat([posterior.log_prob(one) for one in drawn])


def _own_codes(trained: Trained, x: Tensor, generator: Generator) -> Chunks:
    z = trained.model.encode(x).mean
    yield z, trained.model.log_prior(z)


def _all_codes(trained: Trained, x: Tensor, num: int, grid: torch.Size) -> Chunks:
    latent = trained.model.latent
    places = latent.num_codes ** torch.arange(grid.numel()).view(grid)
    for numbers in torch.arange(num).split(max(1, trained.batch_size // len(x))):
        codes = numbers.view(-1, *[1] * len(grid)) // places % latent.num_codes
        z = latent.vectors(codes).to(x.device).repeat_interleave(len(x), 0)
        yield z, trained.model.log_prior(z) + math.log(num)


def _log_likelihood(trained: Trained, z: Tensor, x: Tensor) -> Tensor:
    """log p(x|z) of each latent, k*b *latent -> k*b, no more of them decoded at once than may be."""
    rows = x.repeat(len(z) // len(x), 1, 1, 1)
    parts = zip(z.split(trained.batch_size), rows.split(trained.batch_size), strict=True)
    return torch.cat([trained.objective.log_prob(trained.model.decode(some), of) for some, of in parts])


def _mean(values: Tensor) -> tuple[float, float]:
    """Of n numbers, with its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)
