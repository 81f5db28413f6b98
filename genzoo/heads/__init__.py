"""Heads: they own the decoders and compose what these make into one image. Contract: `genzoo.parts.Head`."""
