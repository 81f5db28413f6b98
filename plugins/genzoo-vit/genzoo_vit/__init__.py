"""ViT decoder for genzoo."""
