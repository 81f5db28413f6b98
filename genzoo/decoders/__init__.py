"""Decoders: features to unbounded images (logits). Contract: `genzoo.parts.Decoder`."""
