"""Lookup-free quantisation."""

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.codes import Quantised, UniformCodes, code_map, straight_through
from genzoo.config import Config
from genzoo.layers import FromFeatures, mean_of_processes
from genzoo.parts import Shape

MAX_JOINT = 10  # bits whose joint distribution is looked at; more fall into groups


class LFQLatent(nn.Module):
    """The signs of a few numbers at each position: MAGVIT-v2 (Yu et al., arXiv 2310.05737, section 3.1).

    z is -1 or 1, (num_bits, h, w) of an encoder's map, (num_bits, 1, num_positions) of a vector; codes h w, the first
    bit the most significant, 2^num_bits in number. Charged beside the commitment: the entropy of each position's code
    less `diversity` times that of the mean over batch and positions (eq. 5), with code c's probability the softmax of
    2 z_e . c / temperature; both in nats, for all positions of the image. Beyond 10 bits the entropies are sums over
    groups of bits. In eval mode an image's own entropy alone is charged: the other is a batch's.
    """

    class Config(Config):
        num_bits: int = Field(10, ge=1, le=24, description="numbers at each position; 2^num_bits codes")
        num_positions: int = Field(
            16, ge=1, le=4096, description="codes of an image where the encoder gives a vector; of a map, one a pixel"
        )
        commitment: float = Field(
            0.25,
            ge=0,
            description="weight of the squared distance from the encoder's numbers to their signs, per image",
        )
        entropy: float = Field(1.0, ge=0, description="weight of the entropies, which are in nats per image")
        diversity: float = Field(1.0, ge=0, description="weight of the mean code's entropy against a position's own")
        temperature: float = Field(1.0, gt=0, description="of the codes' probabilities in the entropies")

    for_more_codes = "raise model.latent.diversity or model.latent.entropy"

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.config = config
        self.num_codes = 2**config.num_bits
        self.shape, self.out_shape = code_map(in_shape, config.num_bits, config.num_positions), in_shape
        powers = 2 ** torch.arange(config.num_bits - 1, -1, -1)
        self.register_buffer("powers", powers[:, None, None], persistent=False)
        self.code = FromFeatures(in_shape, self.shape)
        self.embed = FromFeatures(self.shape, in_shape)

    @property
    def prior(self) -> UniformCodes:
        return UniformCodes(self.num_codes, self.shape[1:], self.vectors)

    def forward(self, features: Tensor) -> Quantised:
        x = self.code(features).float()
        z = self._signs(x)
        charged = {"commitment": self.config.commitment * (x - z).square().flatten(1).sum(1)}
        if self.config.entropy:
            charged |= self._entropies(x)
        return Quantised(z, x, self.num_codes, self.shape[1:], charged)

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(straight_through(self._signs(z), z))

    def codes(self, z: Tensor) -> Tensor:
        """b *shape -> b h w."""
        return ((z > 0) * self.powers).sum(1)

    def vectors(self, codes: Tensor) -> Tensor:
        """b h w -> b *shape."""
        return 2.0 * ((codes.to(self.powers.device).unsqueeze(1) & self.powers) > 0) - 1

    @staticmethod
    def _signs(x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, -1.0)

    def _entropies(self, x: Tensor) -> dict[str, Tensor]:
        """b each, in nats, weighted: `entropy` of each position, and the `diversity` of the batch, with a minus."""
        # p(c) factorises over bits: the log-odds of a 1 are 4 x / temperature.
        logits = (4 / self.config.temperature) * x.flatten(2)  # b n p
        num_positions = logits.shape[-1]
        one = logits.sigmoid()
        own = one * nn.functional.softplus(-logits) + (1 - one) * nn.functional.softplus(logits)
        charged = {"entropy": self.config.entropy * own.flatten(1).sum(1)}
        if self.training and self.config.diversity:
            total = sum(self._mean_entropy(bits) for bits in one.split(MAX_JOINT, 1))
            weight = self.config.entropy * self.config.diversity * num_positions
            charged["diversity"] = (-weight * total).expand(len(x))
        return charged

    @staticmethod
    def _mean_entropy(one: Tensor) -> Tensor:
        """0-d: entropy of the mean distribution over the codes of a few bits; one: b bits p, each bit's chance of 1."""
        joint = one.new_ones(len(one), 1, one.shape[-1])
        for bit in one.unbind(1):
            joint = torch.cat([joint * (1 - bit[:, None]), joint * bit[:, None]], 1)
        mean = joint.mean((0, 2))
        mean = straight_through(mean_of_processes(mean), mean)  # each process has its share of the gradient
        return -torch.special.xlogy(mean, mean.clamp(min=1e-12)).sum()
