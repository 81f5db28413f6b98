"""How far the posteriors of all images together are from the prior."""

from typing import ClassVar

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.metrics.mutual_information import estimate, surgery
from genzoo.parts import Trained


class AggregateKL:
    """KL of the aggregate posterior to the prior, nats: what a sampler could still gain over the prior."""

    class Config(Config):
        pass

    needs: ClassVar[str] = "model"
    lower: ClassVar[dict[str, bool | None]] = {"aggregate_kl": True}

    def __init__(self, config: Config):
        pass

    def score(self, trained: Trained, seed: int) -> dict[str, dict]:
        """KL(q(z) || p(z)) = E[log q(z) - log p(z)], the other half of `mutual_information`, by the same draws.

        What the bound log N takes from the mutual information is added here. UserError where the prior has no density.
        """
        prior = trained.model.prior or trained.model.latent.prior
        if not hasattr(prior, "log_prob"):
            raise UserError("the model's prior has no density (`log_prob`)")
        own, aggregate, prior = trained.once(surgery, seed)
        return {"aggregate_kl": estimate(aggregate - prior, own - aggregate)}
