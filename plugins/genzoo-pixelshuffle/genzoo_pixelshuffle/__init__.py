"""PixelShuffle decoder for genzoo."""
