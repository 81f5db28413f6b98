"""Use of a discrete latent's codes over a whole split."""

from typing import ClassVar

import torch

from genzoo.codes import code_batches
from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.parts import Trained


class Codebook:
    """Share of the codes that are in use, and their perplexity: as good as so many codes that are used alike."""

    class Config(Config):
        pass

    needs: ClassVar[str] = "model"
    lower: ClassVar[dict[str, bool | None]] = {"codebook_use": False, "codebook_perplexity": False}

    def __init__(self, config: Config):
        pass

    def score(self, trained: Trained, seed: int) -> dict[str, dict]:
        """Over every position of every image; of several levels of codes, the mean over them.

        perplexity: exp of the entropy of the codes' shares, in nats; few images bias both downwards.
        "standard_error": of the use by the jackknife over images, of the perplexity to first order. UserError where the
        latent has no codes.
        """
        num_codes = getattr(trained.model.latent, "num_codes", None)
        if not num_codes:
            raise UserError("the latent has no codes")
        codes = torch.cat([*code_batches(trained.model.latent, trained.mean)])  # n level position
        num, num_levels, num_positions = codes.shape
        perplexities, alone, influence = [], torch.zeros(num), torch.zeros(num, dtype=torch.float64)
        used = 0
        for level in codes.unbind(1):
            shares = level.flatten().bincount(minlength=num_codes).double() / level.numel()
            used += int((shares > 0).sum())
            perplexities.append(float(torch.special.entr(shares).sum().exp()))
            surprise = -shares.log()[level].mean(1)  # n, whose mean is the entropy
            influence += perplexities[-1] * (surprise - surprise.mean()) / num_levels
            pairs = torch.stack([torch.arange(num).repeat_interleave(num_positions), level.flatten()]).unique(dim=1)
            seen = pairs[1].bincount(minlength=num_codes)  # images that have the code
            alone += pairs[0][seen[pairs[1]] == 1].bincount(minlength=num)  # codes that no other image has
        stated = {"estimator": f"{num * num_positions:,} codes a level, all positions of all images",
                  "num_codes": num_codes}  # fmt: skip
        jackknife = float(((num - 1) * alone.var(correction=0)).sqrt()) / (num_codes * num_levels)
        use = {"value": used / (num_codes * num_levels), "standard_error": jackknife}
        perplexity = {"value": sum(perplexities) / num_levels, "standard_error": float(influence.std() / num**0.5),
                      "found": {"by_level": perplexities}}  # fmt: skip
        return {"codebook_use": use | stated, "codebook_perplexity": perplexity | stated}
