"""The published protocol of ex-post density estimation, kept for comparison with published numbers."""

from torch import Tensor

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Shape
from genzoo.samplers.gmm import GMMSampler

NUM_COMPONENTS = 100


class SeedProtocolSampler(GMMSampler):
    """`gmm` with 100 full Gaussians fitted on the very test images it is scored against, as in published results.

    The code published with the Split VAE does so. It flatters the score, and every score says so; `gmm`, which is
    fitted on the training images, is the honest one. Nothing can be chosen: the protocol is what it is.
    """

    class Config(Config):
        pass

    def __init__(self, config: Config, latent_shape: Shape):
        gmm = GMMSampler.Config(
            name=config.name, num_components=NUM_COMPONENTS, covariance="full", max_fit=None, fit_split="test"
        )
        super().__init__(gmm, latent_shape)

    @property
    def protocol(self) -> dict:
        """What a score of its samples must state."""
        return {"protocol": "published: fitted on the test images, which flatters the score", **super().protocol}

    def fit(self, mean: Tensor, variance: Tensor, seed: int) -> None:
        """mean, variance: n *latent_shape, of the test images. UserError when n < 100."""
        if len(mean) < NUM_COMPONENTS:
            raise UserError(
                f"samplers/seed_protocol: the published {NUM_COMPONENTS} components cannot be fitted on {len(mean)} "
                "test images; samplers/gmm takes fewer components"
            )
        super().fit(mean, variance, seed)
