"""The evaluator: images to features to statistics to numbers, and panels. It knows no part by name."""
