"""Memory and disk of stage two: many posteriors encoded into the store of a run, and samplers that learn from it.

    python benchmarks/latents.py [--posteriors 60000] [--processes 2] [--out benchmarks/results/latents.json]

A small encoder without training turns noise of 32x32 into maps of 4x16x16, mean and variance of each. Peaks are of
memory that is the process's own (RssAnon); pages of the mapped store, which the system takes back when it needs them,
are not. Of several processes, those of the main one. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from training import MARK, ROOT, say

SAMPLERS = [
    {"name": "flow_matching", "network": "dit", "hidden_dim": 64, "num_layers": 2, "patch_size": 4, "batch_size": 64,
     "steps": 50},
    {"name": "gmm", "num_components": 4, "by_position": True, "max_iter": 3},
]  # fmt: skip


class Peak:
    """The most memory of its own that this process has had since the last question, in bytes."""

    def __init__(self):
        self._most, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            own = next(line for line in lines if line.startswith("RssAnon"))
            self._most = max(self._most, 1024 * int(own.split()[1]))

    def since(self) -> int:
        time.sleep(0.1)
        most, self._most = self._most, 0
        return most


def noise(file: Path, num: int) -> np.ndarray:
    """uint8 num 32 32 1 in a memory map."""
    images = np.memmap(file, np.uint8, "w+", shape=(num, 32, 32, 1))
    rng = np.random.default_rng(0)
    for start in range(0, num, 1000):
        images[start : start + 1000] = rng.integers(0, 256, images[start : start + 1000].shape, dtype=np.uint8)
    return np.memmap(file, np.uint8, "r", shape=images.shape)


def measured(folder: Path, num: int) -> dict:
    from genzoo.config import build
    from genzoo.evaluation.encoded import encoded
    from genzoo.evaluation.work import Work
    from genzoo.launch import launched
    from genzoo.model import Model, ModelConfig
    from genzoo.registry import SAMPLERS as PARTS
    from genzoo.stage_two import fit

    launch, peak = launched(), Peak()
    with launch.ends_as_one():
        resnet = {"name": "resnet", "base_dim": 4}
        config = {
            "encoder": {**resnet, "num_scales": 1, "embed_dim": 8, "out": "map"},
            "latent": {"name": "spatial_gaussian", "channels": 4},
            "head": {"name": "single", "decoder": resnet},
        }
        torch.manual_seed(0)
        model = Model(ModelConfig.model_validate(config), (1, 32, 32))
        with launch.first("images"):
            if launch.is_main:
                noise(folder / "images.u8", num)
        images = np.memmap(folder / "images.u8", np.uint8, "r", shape=(num, 32, 32, 1))
        work = replace(Work(batch_size=100), processes=launch)
        found: dict = {"peak_bytes": {"before": peak.since()}, "seconds": {}}

        def step(name: str, began: float) -> None:
            found["peak_bytes"][name], found["seconds"][name] = peak.since(), time.perf_counter() - began

        began = time.perf_counter()
        rows = encoded(model, images, "latents", work, folder / "latents" / "train-latents.npy", {})
        step("encoded", began)
        for options in SAMPLERS:
            sampler = build(PARTS, PARTS.get(options["name"]).Config(**options), latent_shape=model.latent_shape)
            began = time.perf_counter()
            if hasattr(sampler, "loss") or launch.is_main:
                fit(sampler, rows, 0, folder=folder / options["name"])
            step(options["name"], began)
        began = time.perf_counter()
        if launch.is_main:  # a mixture is fitted by the main process alone
            sampler.sample(1000, torch.Generator().manual_seed(0))
        step("1,000 samples", began)
        files = [file for file in (folder / "latents").iterdir()]
        return {
            **found, "num": num, "processes": launch.num, "shape": [*rows.shape],
            "disk_bytes": sum(file.stat().st_size for file in files),
        } if launch.is_main else {}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posteriors", type=int, nargs="+", default=[6000, 60000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if found := measured(options.one, options.posteriors[0]):
            say(found)
        return
    result = []
    for num in options.posteriors:
        for processes in options.processes:
            with tempfile.TemporaryDirectory() as folder:
                launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
                done = subprocess.run(
                    [sys.executable, *launcher, __file__, "--one", folder, "--posteriors", str(num)],
                    stdout=subprocess.PIPE, text=True, check=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
                )  # fmt: skip
            line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
            result.append(row := json.loads(line.removeprefix(MARK)))
            peaks = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in row["peak_bytes"].items())
            print(f"{num:,} posteriors, {processes} process(es): {row['disk_bytes'] / 2**20:.0f} MiB on disk; peaks in "
                  f"MiB: {peaks}", flush=True)  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
