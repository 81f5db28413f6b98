"""Statistics stream: the peak memory of `genzoo fid`, whatever the number of images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from genzoo.files import sha256

DIM = 2048


class Net(nn.Module):
    """Random weights behind the interface of the published Inception file, as wide and much cheaper."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(23), nn.Flatten(), nn.Linear(3 * 13 * 13, DIM), nn.ReLU())

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return self.layers(x)


def peak_bytes(root: Path, num: int, *words: str) -> int:
    """Of `genzoo fid` in a process of its own: `num` PNG files of 299x299, 200 of them different, against statistics."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for k in range(num):
        file = root / "images" / f"{k:06d}.png"
        if k < 200:
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            coarse.resize((299, 299), Image.Resampling.BICUBIC).save(file)
        else:
            os.link(root / "images" / f"{k % 200:06d}.png", file)
    np.savez(root / "reference.npz", mu=np.zeros(DIM), sigma=np.eye(DIM))
    torch.manual_seed(0)
    torch.jit.script(Net()).save(root / "net.pt")
    command = [
        sys.executable,
        "-m",
        "genzoo",
        "--trust-weights",
        sha256(root / "net.pt"),
        "fid",
        "images",
        "reference.npz",
        "--weights",
        "net.pt",
        "--json",
        *words,
    ]
    environment = {**os.environ, "GENZOO_CACHE": str(root / "cache")}
    with (root / "out").open("w") as out:
        child = subprocess.Popen(command, cwd=root, env=environment, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    [score] = json.loads((root / "out").read_text())["scores"]
    assert score["num_samples"] == num and score["value"] > 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="asks the system for a child's peak memory")
def test_fifty_thousand_images_need_less_than_one_and_a_half_gigabytes(tmp_path):
    assert peak_bytes(tmp_path, 50_000) < 1.5e9
