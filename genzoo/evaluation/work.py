"""How images are made and scored: what decides the time, and no value."""

from dataclasses import dataclass

import torch

from genzoo.launch import ALONE, Launch
from genzoo.progress import Progress, silent


@dataclass(frozen=True)
class Work:
    """processes: those that share the images."""

    device: torch.device | str = "cpu"
    batch_size: int = 64
    progress: Progress = silent
    processes: Launch = ALONE


ON_CPU = Work()
