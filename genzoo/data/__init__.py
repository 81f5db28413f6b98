"""Datasets: where images come from, and the store they are prepared into. Contract: `genzoo.parts.Dataset`."""
