"""Priors: densities of the latent that are learned with the model. Contract: `genzoo.parts.Prior`."""
