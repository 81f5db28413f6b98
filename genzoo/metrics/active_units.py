"""Latent variables that carry something of the image."""

from typing import ClassVar

import torch
from pydantic import Field

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Trained


class ActiveUnits:
    """Latent variables whose posterior mean moves with the image, in number."""

    class Config(Config):
        threshold: float = Field(0.01, gt=0, description="variance of the mean over the images, above which it moves")

    needs: ClassVar[str] = "model"
    lower: ClassVar[dict[str, bool | None]] = {"active_units": None}

    def __init__(self, config: Config):
        self.threshold = config.threshold

    def score(self, trained: Trained, seed: int) -> dict[str, dict]:
        """Burda et al., "Importance Weighted Autoencoders" (arXiv 1509.00519, section 5.2): Var_x(E[z_d|x]) > 0.01.

        Standard error: of the count, each variance known to the standard error of a sample's, the units independent.
        UserError where the posterior has no density: the threshold is in units of a prior of variance 1 or so.
        """
        _, x, _ = next(trained.batches("active_units", seed, every=True))
        posterior = trained.model.encode(x[:1])
        if not hasattr(posterior, "log_prob") or getattr(posterior, "on_sphere", False):
            raise UserError("the latent has no posterior density on free variables, so the threshold has no unit")
        squares = (trained.mean.flatten(1).double() - trained.mean.flatten(1).double().mean(0)).square()
        variance = squares.sum(0) / (trained.num - 1)
        errors = squares.std(0) / trained.num**0.5
        active = torch.special.ndtr((variance - self.threshold) / errors.clamp(min=1e-12))
        return {
            "active_units": {
                "value": int((variance > self.threshold).sum()),
                "standard_error": float((active * (1 - active)).sum().sqrt()),
                "threshold": self.threshold,
                "estimator": "sample variance over the images of the posterior means",
                "found": {"num_units": len(variance)},
            }
        }
