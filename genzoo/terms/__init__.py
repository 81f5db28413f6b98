"""Terms: what is charged beside any objective. Contract: `genzoo.parts.Term`."""
