"""A local page on which the latent of a trained model moves."""
