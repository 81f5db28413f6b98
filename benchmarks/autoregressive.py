"""Drawing 1,000 images of 64 codes: genzoo's autoregressive sampler beside a bare transformer with the same cache.

    python benchmarks/autoregressive.py [--out benchmarks/results/autoregressive.json]

The two take turns; what is quoted is the ratio of their medians. The bare one is torch alone: the same blocks written
out, the same weights, keys and values kept, torch.multinomial for the draws.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from genzoo.config import build
from genzoo.registry import SAMPLERS

GRID, NUM_CODES, NUM, AT_ONCE = (8, 8), 512, 1000, 1000


class Latent:
    """Stands for a model and its latent: the codes themselves are the vectors."""

    def __init__(self):
        self.latent = self

    def vectors(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.float()


def bare(net: nn.Module, num_heads: int) -> torch.Tensor:
    """AT_ONCE images at once, AT_ONCE 64 codes each."""
    begin = torch.zeros(AT_ONCE, 1, dtype=torch.int64)
    tokens, codes, kept = begin, [], [None] * len(net.blocks)
    for position in range(GRID[0] * GRID[1]):
        x = net.tokens(tokens) + net.place[position]
        for n, block in enumerate(net.blocks):
            h = F.layer_norm(x, x.shape[-1:], block.norm_of_attention.weight, block.norm_of_attention.bias)
            q, k, v = block.queries_keys_values(h).view(AT_ONCE, 1, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
            if kept[n] is not None:
                k, v = torch.cat([kept[n][0], k], 2), torch.cat([kept[n][1], v], 2)
            kept[n] = k, v
            x = x + block.join(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            x = x + block.mlp(block.norm(x))
        p = net.out(net.norm(x))[:, 0].softmax(-1)
        codes.append(torch.multinomial(p, 1))
        tokens = 1 + codes[-1]
    return torch.cat(codes, 1)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = SAMPLERS.get("autoregressive").Config(name="autoregressive")
    sampler = build(SAMPLERS, config, latent_shape=GRID, num_codes=NUM_CODES, grid=GRID).eval()
    sampler.bind(Latent())
    sampler.num_fit.fill_(1)
    seconds: dict[str, list[float]] = {"genzoo": [], "bare": []}
    for round in range(options.rounds):
        for name in sorted(seconds, reverse=bool(round % 2)):
            began = time.perf_counter()
            if name == "genzoo":
                sampler.sample(NUM, torch.Generator().manual_seed(round))
            else:
                for _ in range(NUM // AT_ONCE):
                    bare(sampler.network, config.num_heads)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    made = {
        "images": NUM, "codes_an_image": GRID[0] * GRID[1], "num_codes": NUM_CODES, "threads": torch.get_num_threads(),
        "seconds": medians, "speed_of_bare": medians["bare"] / medians["genzoo"], "torch": torch.__version__,
    }  # fmt: skip
    print(json.dumps(made, indent=2))
    if options.out:
        options.out.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
