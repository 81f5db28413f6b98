"""A prior on codes, many at once."""

import math

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from genzoo.samplers.codes import CodeSampler, pick
from genzoo.samplers.transformer import Transformer, TransformerConfig


class MaskGITSampler(CodeSampler):
    """A bidirectional transformer learns codes that are masked from those that are not, and draws in a few rounds.

    Chang et al., "MaskGIT: Masked Generative Image Transformer" (arXiv 2202.04200): in training a share cos(pi r / 2)
    of the codes is masked, r uniform (eq. 1 and section 3.3). In a draw all are masked at first; in each round all are
    drawn, and those kept that were drawn with the most confidence, log p plus Gumbel noise that falls to 0.
    """

    class Config(TransformerConfig):
        num_rounds: int = Field(
            12, ge=1, le=4096, description="rounds of a draw; more than there are codes gain nothing"
        )
        temperature: float = Field(
            1.0, gt=0, description="logits are divided by it: below 1 likelier codes are likelier"
        )
        choice_temperature: float = Field(
            4.5, ge=0, description="weight of the noise by which codes are kept, at first"
        )

    def make_network(self) -> Transformer:
        num_tokens = 1 + self.num_levels * self.num_codes  # the first is the mask
        return Transformer(self.config, num_tokens, self.num_codes, self.length, self.num_levels)

    @property
    def at_once(self) -> int:
        return self.length

    def nats_of(self, codes: Tensor) -> dict[str, Tensor]:
        """Mean of the nats of what is masked, at least one code an image."""
        share = torch.cos(torch.rand(len(codes), 1, device=codes.device) * (math.pi / 2))
        num = (share * self.length).ceil().clamp(min=1)
        masked = torch.rand(codes.shape, device=codes.device).argsort(1).argsort(1) < num
        logits = self.network(self._tokens(codes, masked)).float()
        nats = F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view_as(codes)
        return {"loss": (nats * masked).sum() / masked.sum()}

    def draw(self, num: int, generator: Generator) -> Tensor:
        config, device = self.config, self.num_fit.device
        codes = torch.zeros(num, self.length, dtype=torch.int64, device=device)
        masked = torch.ones_like(codes, dtype=torch.bool)
        rounds = min(config.num_rounds, self.length)
        for n in range(1, rounds + 1):
            logits = self.network(self._tokens(codes, masked)).float() / config.temperature
            drawn = pick(logits, generator)
            codes = torch.where(masked, drawn, codes)
            left = 0 if n == rounds else math.floor(self.length * math.cos(math.pi / 2 * n / rounds))
            uniform = torch.rand(codes.shape, generator=generator, dtype=torch.float64).clamp(min=1e-300).to(device)
            confidence = logits.log_softmax(-1).gather(-1, codes.unsqueeze(-1)).squeeze(-1).double()
            confidence = confidence - config.choice_temperature * (1 - n / rounds) * torch.log(-torch.log(uniform))
            confidence = confidence.masked_fill(~masked, torch.inf)  # what was kept stays
            masked = confidence.argsort(1).argsort(1) < min(left, self.length - n)
        return codes

    def _tokens(self, codes: Tensor, masked: Tensor) -> Tensor:
        level = torch.arange(self.length, device=codes.device) % self.num_levels
        return torch.where(masked, 0, 1 + level * self.num_codes + codes)
