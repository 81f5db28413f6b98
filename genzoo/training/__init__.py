"""The trainer: data feed, one visible loop, checkpoints. It knows no part by name."""
