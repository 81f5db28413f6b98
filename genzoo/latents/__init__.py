"""Latents: features to a posterior, and a latent back to features. Contract: `genzoo.parts.Latent`."""
