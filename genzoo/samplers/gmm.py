"""Ex-post density estimation with a Gaussian mixture."""

import logging
import time
import warnings
from math import prod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.budget import refuse
from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Shape

log = logging.getLogger("genzoo")


class GMMSampler(nn.Module):
    """z ~ a Gaussian mixture fitted by EM (scikit-learn) on the posterior means.

    Ghosh et al., "From Variational to Deterministic Autoencoders" (arXiv 1903.12436), section 4. Of a map c h w, either
    one mixture in c h w dimensions or, by position, h w mixtures of c-vectors, independent of each other.
    """

    class Config(Config):
        num_components: int = Field(100, ge=1, le=2**20, description="number of Gaussians")
        covariance: Literal["full", "diag"] = Field("full", description="shape of each Gaussian")
        by_position: bool = Field(
            False, description="of maps: a mixture at each position, independent of the others; false: one of all"
        )
        reg_covar: float = Field(1e-6, ge=0, description="added to the covariances' diagonals")
        max_iter: int = Field(100, ge=1, le=10**6, description="EM iterations at most")
        max_fit: int | None = Field(
            20000, ge=1, description="fit on this many posteriors, drawn at random; null: all. The score states it"
        )
        fit_split: Literal["train", "test"] = Field(
            "train", description="whose posteriors it is fitted on; test flatters the score, which then says so"
        )

        @property
        def needs(self) -> tuple[str, ...]:
            return ("latent map",) if self.by_position else ()

    needs_fit: ClassVar[bool] = True

    def __init__(self, config: Config, latent_shape: Shape):
        if config.by_position and len(latent_shape) != 3:
            raise ValueError("by_position is for maps c h w; false takes latents of any shape")
        super().__init__()
        self.config = config
        self.latent_shape = latent_shape
        self.fit_split = config.fit_split
        k, d = config.num_components, latent_shape[0] if config.by_position else prod(latent_shape)
        places = (prod(latent_shape[1:]),) if config.by_position else ()
        self.register_buffer("weights", torch.zeros(*places, k))
        self.register_buffer("means", torch.zeros(*places, k, d))
        # of the covariances, lower triangular; a diagonal one keeps its standard deviations
        root = (k, d, d) if config.covariance == "full" else (k, d)
        self.register_buffer("cholesky", torch.zeros(*places, *root))
        self.register_buffer("num_fit", torch.zeros((), dtype=torch.int64))

    @property
    def protocol(self) -> dict:
        """What a score of its samples must state."""
        left_out = {"name", "max_fit", "fit_split", *([] if self.config.by_position else ["by_position"])}
        return {**self.config.model_dump(exclude=left_out), "num_fit": int(self.num_fit)}

    def fit(self, mean: Tensor, variance: Tensor, seed: int) -> None:
        """mean, variance: n *latent_shape, of which only the mean is used. UserError when n < num_components."""
        config = self.config
        if len(mean) < config.num_components:
            raise UserError(
                f"samplers/{config.name}: {config.num_components} components cannot be fitted on {len(mean)} images; "
                f"set num_components to {max(1, len(mean) // 20)} or fewer"
            )
        if config.max_fit and config.max_fit < len(mean):
            kept = torch.randperm(len(mean), generator=torch.Generator().manual_seed(seed))[: config.max_fit]
            mean = mean[kept.sort().values]
        held = 3 * 8 * len(mean) * config.num_components  # in EM, of every component for every posterior
        what = f"samplers/{config.name}: {config.num_components:,} components on {len(mean):,} posteriors"
        refuse(held, what, "lower num_components or max_fit")
        z = mean.flatten(1).double()
        rows = z.unflatten(1, (len(mean[0]), -1)).permute(2, 0, 1) if config.by_position else z[None]  # m n d/m
        num = sum(buffer.numel() for buffer in (self.weights, self.means, self.cholesky))
        mixtures = "1 mixture" if len(rows) == 1 else f"{len(rows)} mixtures"
        log.info("samplers/%s: %s of %s Gaussians in %s dimensions, %s numbers; up to %s rounds of EM on %s posteriors",
                 config.name, mixtures, config.num_components, rows.shape[2], f"{num:,}", config.max_iter,
                 f"{len(mean):,}")  # fmt: skip
        for buffer, learned in zip((self.weights, self.means, self.cholesky), self._learned(rows, seed), strict=True):
            buffer.copy_(learned.view_as(buffer))
        self.num_fit.fill_(len(mean))

    def _learned(self, rows: Tensor, seed: int) -> list[Tensor]:
        """Points of each mixture, m n d -> its weights m k, means m k d, and roots of its covariances m k *."""
        from sklearn.mixture import GaussianMixture

        config, place, most = self.config, f"samplers/{self.config.name}", self.config.max_iter
        learned, num_converged = [], 0
        how = {"reg_covar": config.reg_covar, "random_state": seed, "warm_start": True}
        for points in rows:
            mixture = GaussianMixture(config.num_components, covariance_type=config.covariance, **how)
            try:
                for turn, rounds in enumerate((1, 1, most - 2)[:most]):  # the first looks for centres, too
                    began = time.perf_counter()
                    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of a turn that is no fit
                        mixture.set_params(max_iter=rounds).fit(points.numpy())
                    if turn == 1 and not learned:
                        log.info("%s: about %.0f s at most", place, (time.perf_counter() - began) * most * len(rows))
                    if mixture.converged_:
                        break
            except ValueError as error:
                raise UserError(f"{place} cannot be fitted ({error}); raise reg_covar, lower num_components") from error
            num_converged += mixture.converged_
            covariances = torch.from_numpy(mixture.covariances_)
            root = torch.linalg.cholesky(covariances) if config.covariance == "full" else covariances.sqrt()
            learned.append((torch.from_numpy(mixture.weights_), torch.from_numpy(mixture.means_), root))
        log.info("%s: %s of %s converged before max_iter rounds", place, num_converged, len(rows))
        return [torch.stack(some) for some in zip(*learned, strict=True)]

    def sample(self, num: int, generator: Generator) -> Tensor:
        if not self.num_fit:
            raise UserError(f"samplers/{self.config.name} has not been fitted yet")
        weights = self.weights
        if not (weights.isfinite().all() and (weights >= 0).all() and weights.sum(-1).all()):
            raise UserError(
                f"samplers/{self.config.name}: its weights are no probabilities; remove its file to fit again"
            )
        learned = (self.weights, self.means, self.cholesky)
        mixtures = learned if self.config.by_position else [buffer[None] for buffer in learned]
        z = torch.stack([_draws(*mixture, num, generator) for mixture in zip(*mixtures, strict=True)])
        return (z.permute(1, 2, 0) if self.config.by_position else z[0]).reshape(num, *self.latent_shape)


def _draws(weights: Tensor, means: Tensor, cholesky: Tensor, num: int, generator: Generator) -> Tensor:
    """num d, of one mixture."""
    component = torch.multinomial(weights, num, replacement=True, generator=generator)
    noise = torch.randn(num, means.shape[1], generator=generator)
    z = means[component]
    for k in component.unique():  # gathering a d x d factor for every sample would take num * d^2 of memory
        rows, root = component == k, cholesky[k]
        z[rows] += noise[rows] @ root.T if root.ndim == 2 else noise[rows] * root
    return z
