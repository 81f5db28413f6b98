"""ConvNeXt decoder for genzoo."""
