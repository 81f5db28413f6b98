"""The model's own prior."""

from typing import ClassVar

from torch import Generator, Tensor, nn

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Shape


class PriorSampler(nn.Module):
    """z ~ p(z): the model's learned prior, or its latent's own, such as N(0, I)."""

    class Config(Config):
        pass

    needs_fit: ClassVar[bool] = False
    needs = ("prior",)

    def __init__(self, config: Config, latent_shape: Shape):
        super().__init__()
        self.latent_shape = latent_shape
        self._model: tuple = ()  # in a tuple it is no submodule

    def bind(self, model: nn.Module) -> None:
        self._model = (model,)

    def sample(self, num: int, generator: Generator) -> Tensor:
        """UserError before `bind`."""
        if not self._model:
            raise UserError("samplers/prior draws from a model's prior: bind(model) first")
        return self._model[0].sample_prior(num, generator)
