"""Ways between two latents."""

import torch
from torch import Tensor


def between(a: Tensor, b: Tensor, num: int, spherical: bool) -> Tensor:
    """Latents from a to b, both *latent and both included: num *latent.

    spherical: the direction moves along the great circle, the norm in equal steps (Shoemake, "Animating rotation with
    quaternion curves", 1985; for latents White, "Sampling generative networks", arXiv 1609.04468): half-way between
    two draws of N(0, I) a straight line is far nearer to the centre than any draw is.
    """
    t = torch.linspace(0, 1, num, dtype=torch.float64).view(-1, 1)
    x, y = (end.detach().cpu().double().flatten() for end in (a, b))
    line = torch.lerp(x, y, t)
    norms = x.norm(), y.norm()
    if spherical and min(norms) > 0:
        u, v = x / norms[0], y / norms[1]
        angle = torch.acos((u @ v).clamp(-1, 1))
        if angle.sin() > 1e-6:  # else the directions are the same, or opposite and no circle is the nearest
            direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
            line = direction * torch.lerp(*norms, t)
    return line.to(a).view(num, *a.shape)
