"""Samplers: densities on latents to generate from. Contract: `genzoo.parts.Sampler`."""
