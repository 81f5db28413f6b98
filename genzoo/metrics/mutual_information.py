"""What a draw of the latent tells of which image it is of."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from genzoo.codes import code_batches
from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Trained

PAIRS = 2**20  # numbers of draws under posteriors that are held at once
NEAR = 1.0  # nats below log N


class MutualInformation:
    """Mutual information of image and latent under the posterior, nats."""

    class Config(Config):
        pass

    needs: ClassVar[str] = "model"
    lower: ClassVar[dict[str, bool | None]] = {"mutual_information": None}

    def __init__(self, config: Config):
        pass

    def score(self, trained: Trained, seed: int) -> dict[str, dict]:
        """I(n; z) = E[log q(z|x_n) - log q(z)]: Hoffman & Johnson, "ELBO surgery" (NIPS workshop 2016).

        With `aggregate_kl` it is the KL of the bound. See `surgery` for q(z) and its bias.
        """
        own, aggregate, _ = trained.once(surgery, seed)
        return {"mutual_information": estimate(own - aggregate, own - aggregate)}


def surgery(trained: Trained, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """log q(z|x), log q(z) and log p(z), n each, float64, at one draw of every image's posterior.

    q(z) is the mixture of the posteriors of all the N images: exact of these, and not of the population, whose mutual
    information may exceed log N, the most that it can be here. Discrete latents: shares of equal grids of codes. Costs
    N^2 densities. UserError where the posterior has none, or none that is cheap.
    """
    model, num = trained.model, trained.num
    if hasattr(model.latent, "codes"):
        grids = torch.cat([codes.flatten(1) for codes in code_batches(model.latent, trained.mean)])
        _, which, counts = grids.unique(dim=0, return_inverse=True, return_counts=True)
        aggregate = (counts[which].double() / num).log()
        prior = model.log_prior(trained.mean[:1].to(next(model.parameters()).device)).double().cpu()
        return torch.zeros_like(aggregate), aggregate, prior.expand(num)
    _, x, _ = next(trained.batches("draws", seed, every=True))
    posterior = model.encode(x[:1])
    if not hasattr(posterior, "log_prob"):
        raise UserError("the latent's posterior has no density (`log_prob`)")
    if getattr(posterior, "kl_is_estimate", False):
        raise UserError("a density of this posterior is a pass of the network, and every pair of images needs one")
    z, densities = torch.zeros(num, *model.latent_shape), torch.zeros(num, 2, dtype=torch.float64)
    mine = []
    for rows, x, generator in trained.batches("draws", seed):
        posterior = model.encode(x)
        drawn = posterior.sample(generator)
        z[rows] = drawn.cpu()
        densities[rows] = torch.stack([posterior.log_prob(drawn), model.log_prior(drawn)], 1).double().cpu()
        mine.append(torch.arange(num)[rows])
    z, densities = trained.total(z), trained.total(densities)
    mine = torch.cat([torch.arange(0), *mine])
    sums = torch.full((len(mine),), -math.inf, dtype=torch.float64)
    for _, x, _ in trained.batches("mixture", seed, every=True):
        posterior = model.encode(x)
        rows = z[mine].to(x.device).split(max(1, PAIRS // (len(x) * z[0].numel())))
        found = [posterior.log_prob(some.unsqueeze(1)).double().logsumexp(1).cpu() for some in rows]
        sums = torch.logaddexp(sums, torch.cat([sums[:0], *found]))
    aggregate = torch.zeros(num, dtype=torch.float64).index_copy(0, mine, sums - math.log(num))
    return densities[:, 0], trained.total(aggregate), densities[:, 1]


def estimate(values: Tensor, information: Tensor) -> dict:
    """The entry of a mean over the N images of something of the aggregate posterior; information: log q(z|x)/q(z)."""
    num = len(values)
    made = {
        "value": float(values.mean()),
        "standard_error": float(values.std() / num**0.5),
        "unit": "nats per image",
        "estimator": "a draw of every image, q(z) the mixture of all their posteriors",
        "found": {"log_num_images": math.log(num)},
    }
    if float(information.mean()) > math.log(num) - NEAR:
        made["note"] = "the mutual information is near log N, its bound: more images would raise it"
    return made
