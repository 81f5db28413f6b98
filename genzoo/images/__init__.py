"""Image files and arrays -> uint8 arrays, for training and for scores. Nothing here imports PyTorch."""
