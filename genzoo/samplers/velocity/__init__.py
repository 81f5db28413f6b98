"""Networks for the velocity v(x, t) of flow matching: x b *latent_shape, t b in [0, 1] -> b *latent_shape."""
