"""The point of a model between bits spent and error left."""

from typing import ClassVar

import torch
from torch import Tensor

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Trained


class RateDistortion:
    """Rate, the KL in nats per image, and distortion, the squared error per pixel: a point for each model."""

    class Config(Config):
        pass

    needs: ClassVar[str] = "model"
    lower: ClassVar[dict[str, bool | None]] = {"rate": None, "distortion": None}  # one is had for the other

    def __init__(self, config: Config):
        pass

    def score(self, trained: Trained, seed: int) -> dict[str, dict]:
        """Means over the images, of the image that one draw of the posterior decodes to: Alemi et al., "Fixing a Broken
        ELBO" (arXiv 1711.00464), with the squared error for -log p(x|z), so that models of any p(x|z) share the plane.

        UserError where there is no KL, so no rate.
        """
        model, points = trained.model, torch.zeros(trained.num, 2, dtype=torch.float64)
        _, x, _ = next(trained.batches("rate_distortion", seed, every=True))
        posterior = model.encode(x[:1])
        if not hasattr(posterior, "kl" if model.prior is None else "log_prob"):
            raise UserError("the latent has no KL, and so no rate")
        estimated = model.prior is not None or getattr(posterior, "kl_is_estimate", False)
        for rows, x, generator in trained.batches("rate_distortion", seed):
            posterior = model.encode(x)
            z = posterior.sample(generator)
            error = (model.decode(z).image.float() - x).square().flatten(1).mean(1)
            points[rows] = torch.stack([model.kl(posterior, z).reshape(len(x), -1).sum(1), error], 1).double().cpu()
        rate, distortion = trained.total(points).unbind(1)
        how = "log q(z|x) - log p(z) at one draw an image" if estimated else "KL(q(z|x) || p(z)) of every image"
        return {
            "rate": {**_mean(rate), "unit": "nats per image", "estimator": how},
            "distortion": {
                **_mean(distortion),
                "unit": "squared error per pixel in [0, 1]",
                "estimator": "one draw of the posterior an image, decoded",
            },
        }


def _mean(values: Tensor) -> dict[str, float]:
    return {"value": float(values.mean()), "standard_error": float(values.std() / len(values) ** 0.5)}
