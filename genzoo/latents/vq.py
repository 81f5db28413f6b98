"""Vector-quantised latent."""

from torch import Tensor, nn

from genzoo.codes import Codebook, CodebookConfig, Quantised, UniformCodes, code_map, straight_through
from genzoo.layers import FromFeatures
from genzoo.parts import Shape


class VQLatent(nn.Module):
    """At each position the nearest of K learned vectors: VQ-VAE (van den Oord et al., arXiv 1711.00937).

    Latents (dim, h, w) of an encoder's map, (dim, 1, num_positions) of a vector; codes h w. The codebook follows by
    running averages (`genzoo.codes.Codebook`), the encoder is charged `commitment * |z_e - z_q|^2` (eq. 3), summed over
    the image, and the decoder's gradient goes straight through.
    """

    class Config(CodebookConfig):
        pass

    for_more_codes = "raise model.latent.revive_below, or lower model.latent.dim"

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        self.num_codes, self.commitment = config.num_codes, config.commitment
        self.shape, self.out_shape = code_map(in_shape, config.dim, config.num_positions), in_shape
        self.code = FromFeatures(in_shape, self.shape)
        self.codebook = Codebook(config)
        self.embed = FromFeatures(self.shape, in_shape)

    @property
    def prior(self) -> UniformCodes:
        return UniformCodes(self.num_codes, self.shape[1:], self.vectors)

    def forward(self, features: Tensor) -> Quantised:
        x = self.code(features).float()  # b d h w
        rows = x.detach().movedim(1, -1)  # b h w d
        _, vectors = self.codebook(rows.reshape(-1, rows.shape[-1]))
        z = vectors.view_as(rows).movedim(-1, 1)
        charged = {"commitment": self.commitment * (x - z).square().flatten(1).sum(1)} if self.commitment else {}
        return Quantised(z, x, self.num_codes, self.shape[1:], charged)

    def expand(self, z: Tensor) -> Tensor:
        return self.embed(straight_through(self.vectors(self.codes(z)), z))

    def codes(self, z: Tensor) -> Tensor:
        """b *shape -> b h w: the nearest."""
        return self.codebook.nearest(z.movedim(1, -1))

    def vectors(self, codes: Tensor) -> Tensor:
        """b h w -> b *shape."""
        vectors = self.codebook.vectors
        return vectors[codes.to(vectors.device)].movedim(-1, 1)
