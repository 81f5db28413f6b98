"""Encoders: image (b c h w) to features. Contract: `genzoo.parts.Encoder`."""
