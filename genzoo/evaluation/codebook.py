"""Which codes of a discrete latent are in use, over a whole split and never a batch."""

import torch
from torch import Tensor, nn

MAX_SHARES, BATCH = 256, 1024


@torch.no_grad()
def codebook_usage(latent: nn.Module, mean: Tensor) -> list[dict] | None:
    """An entry for each level of codes (`codes(z)`, b h w, or b level h w); None where the latent has no codes.

    mean: n *latent_shape, of the posteriors of n images. num_used: codes that any position of any image has.
    perplexity: exp of the entropy of the shares, nats: num_codes where all are used alike, 1 where one is. shares: of
    the MAX_SHARES most used codes, in descending order.
    """
    num_codes = getattr(latent, "num_codes", None)
    if not num_codes:
        return None
    device = next((value.device for value in latent.state_dict().values()), mean.device)
    counts: Tensor | None = None
    for some in mean.split(BATCH):
        codes = latent.codes(some.to(device)).cpu()
        levels = codes.movedim(1, 0).flatten(1) if codes.ndim == 4 else codes.reshape(1, -1)
        found = torch.stack([level.bincount(minlength=num_codes) for level in levels])
        counts = found if counts is None else counts + found
    return [_usage(level, num_codes) for level in counts]


def _usage(counts: Tensor, num_codes: int) -> dict:
    shares = counts.double() / counts.sum()
    return {
        "num_codes": num_codes,
        "num_used": int((counts > 0).sum()),
        "perplexity": float(torch.special.entr(shares).sum().exp()),
        "shares": [float(f"{share:.4g}") for share in shares.sort(descending=True).values[:MAX_SHARES].tolist()],
        "num_drawn": int(counts.sum()),
    }
