"""Which codes of a discrete latent are in use, over a whole split and never a batch."""

import torch
from torch import Tensor, nn

MAX_SHARES = 256
COLLAPSED = 0.1  # perplexity over the number of codes, below which a tenth of them would do as much


@torch.no_grad()
def codebook_usage(latent: nn.Module, mean: Tensor) -> dict:
    """What metrics.json says of the codes: `codebook`, and `note` where they have collapsed. {} of a latent without.

    mean: n *latent_shape, of the posteriors of n images. `codebook` has an entry for each level of codes (`codes(z)`,
    b h w, or b level h w). num_used: codes that any position of any image has. perplexity: exp of the entropy of the
    shares, nats: num_codes where all are used alike, 1 where one is. shares: of the MAX_SHARES most used codes, in
    descending order.
    """
    num_codes = getattr(latent, "num_codes", None)
    if not num_codes:
        return {}
    from genzoo.codes import code_batches  # only where there are codes

    counts: Tensor | None = None
    for codes in code_batches(latent, mean):
        found = torch.stack([level.flatten().bincount(minlength=num_codes) for level in codes.unbind(1)])
        counts = found if counts is None else counts + found
    usage = [_usage(level, num_codes) for level in counts]
    note = _collapse(usage, getattr(latent, "for_more_codes", ""))
    return {"codebook": usage, **({"note": note} if note else {})}


def _usage(counts: Tensor, num_codes: int) -> dict:
    shares = counts.double() / counts.sum()
    return {
        "num_codes": num_codes,
        "num_used": int((counts > 0).sum()),
        "perplexity": float(torch.special.entr(shares).sum().exp()),
        "shares": [float(f"{share:.4g}") for share in shares.sort(descending=True).values[:MAX_SHARES].tolist()],
        "num_drawn": int(counts.sum()),
    }


def _collapse(usage: list[dict], remedy: str) -> str:
    """What to say, and to do, where few codes carry a level; else ""."""
    fallen = {
        number: level for number, level in enumerate(usage, 1) if level["perplexity"] < COLLAPSED * level["num_codes"]
    }
    if not fallen:
        return ""
    number, level = min(fallen.items(), key=lambda pair: pair[1]["perplexity"])
    where = f" of level {number}" if len(usage) > 1 else ""
    return (
        f"The codes collapsed: {level['num_used']:,} of {level['num_codes']:,}{where} are in use, as good as "
        f"{level['perplexity']:.1f} that are used alike; {remedy + ', or ' if remedy else ''}use fewer codes, which "
        "would do as much."
    )
