"""A prior on codes, one after the other."""

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from genzoo.samplers.codes import CodeSampler, pick
from genzoo.samplers.transformer import Cache, Transformer, TransformerConfig


class AutoregressiveSampler(CodeSampler):
    """p(codes) = prod_i p(code_i | those before it), by a decoder-only transformer.

    Esser et al., "Taming Transformers for High-Resolution Image Synthesis" (arXiv 2012.09841), eq. 8 and 9: the second
    stage of a VQ-GAN. Draws keep the keys and values of what was drawn before. Training logs -log p(codes) in nats per
    image: of the codes, not of the pixels.
    """

    class Config(TransformerConfig):
        temperature: float = Field(
            1.0, gt=0, description="logits are divided by it: below 1 likelier codes are likelier"
        )
        top_k: int | None = Field(None, ge=1, description="draw from the k likeliest codes alone; null: from all")
        top_p: float | None = Field(
            None, gt=0, le=1, description="draw from the fewest codes that have this probability together; null: all"
        )

    def make_network(self) -> Transformer:
        num_tokens = 1 + self.num_levels * self.num_codes  # the first says that an image begins
        return Transformer(self.config, num_tokens, self.num_codes, self.length, self.num_levels)

    def nats_of(self, codes: Tensor) -> dict[str, Tensor]:
        logits = self.network(self._tokens(codes), causal=True)
        nats = F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())
        return {"loss": nats, "nats_per_image": nats.detach() * self.length}

    def log_prob(self, codes: Tensor) -> Tensor:
        """b *grid, int64 -> b, nats."""
        codes = self.in_order(codes)
        logits = self.network(self._tokens(codes), causal=True).float()
        return logits.log_softmax(-1).gather(-1, codes.unsqueeze(-1)).flatten(1).sum(1)

    def draw(self, num: int, generator: Generator) -> Tensor:
        codes, cache = torch.zeros(num, 0, dtype=torch.int64, device=self.num_fit.device), Cache()
        for _ in range(self.length):
            logits = self.network(self._newest(codes), causal=True, cache=cache)[:, -1].float()
            codes = torch.cat([codes, pick(self._narrowed(logits), generator)[:, None]], 1)
        return codes

    def _tokens(self, codes: Tensor) -> Tensor:
        """What is known before each code is: b length -> b length."""
        return self._named(F.pad(codes, (1, 0))[:, : self.length])

    def _newest(self, codes: Tensor) -> Tensor:
        """The last of the tokens of the codes drawn so far: b n -> b 1."""
        return self._named(F.pad(codes, (1, 0)))[:, -1:]

    def _named(self, codes: Tensor) -> Tensor:
        """Codes with a place for the beginning in front -> tokens: those of each level have numbers of their own."""
        place = torch.arange(codes.shape[1], device=codes.device) - 1
        return torch.where(place < 0, 0, 1 + place % self.num_levels * self.num_codes + codes)

    def _narrowed(self, logits: Tensor) -> Tensor:
        """b k -> b k, by temperature, top_k and top_p; what is not drawn from has -inf."""
        config, logits = self.config, logits / self.config.temperature
        if config.top_k and config.top_k < self.num_codes:
            logits = logits.masked_fill(logits < logits.topk(config.top_k).values[:, -1:], -torch.inf)
        if config.top_p is not None:
            ranked, order = logits.sort(descending=True, stable=True)
            p = ranked.softmax(-1)
            before = p.cumsum(-1) - p  # 0 of the likeliest, which is always in
            logits = ranked.masked_fill(before >= config.top_p, -torch.inf).gather(-1, order.argsort(-1))
        return logits
