"""Ex-post density estimation with a Gaussian mixture."""

from math import prod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Shape


class GMMSampler(nn.Module):
    """z ~ a Gaussian mixture fitted by EM (scikit-learn) on the posterior means.

    Ghosh et al., "From Variational to Deterministic Autoencoders" (arXiv 1903.12436), section 4.
    """

    class Config(Config):
        num_components: int = Field(100, ge=1, le=2**20, description="number of Gaussians")
        covariance: Literal["full", "diag"] = Field("full", description="shape of each Gaussian")
        reg_covar: float = Field(1e-6, ge=0, description="added to the covariances' diagonals")
        max_iter: int = Field(100, ge=1, le=10**6, description="EM iterations at most")
        max_fit: int | None = Field(
            20000, ge=1, description="fit on this many posteriors, drawn at random; null: all. The score states it"
        )
        fit_split: Literal["train", "test"] = Field(
            "train", description="whose posteriors it is fitted on; test flatters the score, which then says so"
        )

    needs_fit: ClassVar[bool] = True

    def __init__(self, config: Config, latent_shape: Shape):
        super().__init__()
        self.config = config
        self.latent_shape = latent_shape
        self.fit_split = config.fit_split
        k, d = config.num_components, prod(latent_shape)
        self.register_buffer("weights", torch.zeros(k))
        self.register_buffer("means", torch.zeros(k, d))
        # of the covariances, lower triangular; a diagonal one keeps its standard deviations
        self.register_buffer("cholesky", torch.zeros((k, d, d) if config.covariance == "full" else (k, d)))
        self.register_buffer("num_fit", torch.zeros((), dtype=torch.int64))

    @property
    def protocol(self) -> dict:
        """What a score of its samples must state."""
        return {**self.config.model_dump(exclude={"name", "max_fit", "fit_split"}), "num_fit": int(self.num_fit)}

    def fit(self, mean: Tensor, variance: Tensor, seed: int) -> None:
        """mean, variance: n *latent_shape, of which only the mean is used. UserError when n < num_components."""
        from sklearn.mixture import GaussianMixture

        config = self.config
        if len(mean) < config.num_components:
            raise UserError(
                f"samplers/{config.name}: {config.num_components} components cannot be fitted on {len(mean)} images; "
                f"set num_components to {max(1, len(mean) // 20)} or fewer"
            )
        if config.max_fit and config.max_fit < len(mean):
            kept = torch.randperm(len(mean), generator=torch.Generator().manual_seed(seed))[: config.max_fit]
            mean = mean[kept.sort().values]
        mixture = GaussianMixture(
            config.num_components,
            covariance_type=config.covariance,
            reg_covar=config.reg_covar,
            max_iter=config.max_iter,
            random_state=seed,
        )
        try:
            mixture.fit(mean.flatten(1).double().numpy())
        except ValueError as error:
            raise UserError(
                f"samplers/{self.config.name} cannot be fitted ({error}); raise reg_covar or lower num_components"
            ) from error
        covariances = torch.from_numpy(mixture.covariances_)
        root = torch.linalg.cholesky(covariances) if config.covariance == "full" else covariances.sqrt()
        self.weights.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.cholesky.copy_(root)
        self.num_fit.fill_(len(mean))

    def sample(self, num: int, generator: Generator) -> Tensor:
        if not self.num_fit:
            raise UserError(f"samplers/{self.config.name} has not been fitted yet")
        component = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        noise = torch.randn(num, self.means.shape[1], generator=generator)
        z = self.means[component]
        for k in component.unique():  # gathering a d x d factor for every sample would take num * d^2 of memory
            rows = component == k
            root = self.cholesky[k]
            z[rows] += noise[rows] @ root.T if root.ndim == 2 else noise[rows] * root
        return z.view(num, *self.latent_shape)
