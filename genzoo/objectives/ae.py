"""The plain autoencoder's objective."""

from torch import Tensor, nn

from genzoo.layers import in_float32
from genzoo.objectives.reconstruction import Reconstruction, ReconstructionConfig, penalties_of
from genzoo.parts import Composition, Observation, Pass, Shape


class AE(nn.Module):
    """`loss = rec`, in nats per image, plus what the latent itself charges, such as the norm of its code.

    With a deterministic latent, its penalty and a term or spectral norm on the decoder this is the regularized
    autoencoder of Ghosh et al., "From Variational to Deterministic Autoencoders" (arXiv 1903.12436, eq. 9).
    """

    class Config(ReconstructionConfig):
        pass

    def __init__(self, config: Config, image_shape: Shape):
        super().__init__()
        self.reconstruction = Reconstruction(config)
        self.needs = self.reconstruction.needs

    def forward(self, made: Pass, x: Tensor, step: Tensor, model) -> dict[str, Tensor]:
        """made: the pass over x, b c h w in [0, 1]; step: optimizer steps done, 0-d."""
        with in_float32(x):
            rec, mse, gamma = self.reconstruction(x, made.composition, step)
            penalties = {name: value.mean() for name, value in penalties_of(made).items()}
            loss = sum(penalties.values(), rec)
        terms = {"rec": rec, "mse": mse, "gamma": gamma, **penalties}
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def log_prob(self, composition: Composition, x: Tensor) -> Tensor:
        """log p(x|z), b, nats per image: what `reconstruction` charges, with its normaliser."""
        return self.reconstruction.log_prob(composition, x)

    def observation(self, composition: Composition) -> Observation:
        return self.reconstruction.observation(composition)
