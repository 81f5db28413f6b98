"""StyleGAN decoder for genzoo."""
