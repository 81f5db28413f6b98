"""What single options gain or cost: training, and evaluation networks, with one thing changed, side by side in one run.

    python benchmarks/options.py [--short] [--out benchmarks/results/options.json]

Training is genzoo's of the medium network of benchmarks/training.py at 32x32, with everything on; scoring is a features
part on batches of 100 images of 32x32. Each measurement is a process of its own; rounds alternate, and ratios are of
medians. What the first steps cost beyond their share (compiling, for one) is counted apart, as the start. InceptionV3
has random weights, and is left out where pytorch-fid, which describes it, is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from training import BATCH, DEVICE, NETWORKS, ROOT, parts, stored_images

SYSTEM = "GENZOO_MALLOC=system"
TRAINING = {
    "defaults": {},
    SYSTEM: {},
    "train.precision=fp32": {"precision": "fp32"},
    "train.channels_last=false": {"channels_last": False},
    "train.activation_checkpointing=true": {"activation_checkpointing": True},
    "train.compile=default": {"compile": "default"},
}
SCORING = ["efficientnet_lite0", *(["inception"] if find_spec("pytorch_fid") else [])]
CASES = {"training": list(TRAINING)} | {f"scoring, {name}": ["defaults", SYSTEM] for name in SCORING}


def train(option: str, steps: int) -> tuple[float, float]:
    """Seconds a step, by the training log, after the first tenth of the steps; and how many more those took."""
    from genzoo.training.config import TrainConfig
    from genzoo.training.trainer import train

    model, objective = parts(NETWORKS["medium"], 32)
    config = TrainConfig(
        steps=steps, batch_size=BATCH, ema=0.999, log_every=steps // 10, checkpoint_every=0, **TRAINING[option]
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # nothing compiled before is found
        train(model, objective, stored_images(32, folder), config, folder=folder / "run", seed=0, progress=False)
        lines = [json.loads(line) for line in (folder / "run" / "train.jsonl").read_text().splitlines()]
    seconds = (lines[-1]["seconds"] - lines[0]["seconds"]) / (lines[-1]["step"] - lines[0]["step"])
    return seconds, lines[0]["seconds"] - lines[0]["step"] * seconds


def score(features: str, batches: int) -> tuple[float, float]:
    """Seconds a batch, and how many more the first one took."""
    from fid import FILE, random_network

    from genzoo.config import build
    from genzoo.registry import FEATURES

    with tempfile.TemporaryDirectory() as folder:
        options = {"name": features}
        if features == "inception":
            random_network(Path(folder) / FILE)
            options["weights"] = Path(folder) / FILE
        net = build(FEATURES, FEATURES.get(features).Config(**options)).to(DEVICE)
        images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, device=DEVICE)
        with torch.no_grad():
            times = [time.perf_counter()]
            for _ in range(1 + batches):
                net(images).sum().item()
                times.append(time.perf_counter())
    seconds = (times[-1] - times[1]) / batches
    return seconds, times[1] - times[0] - seconds


def one(case: str, option: str, num: int) -> dict:
    from genzoo.allocator import keep_freed_memory

    keep_freed_memory()  # unless the environment says otherwise
    seconds, start = train(option, num) if case == "training" else score(case.partition(", ")[2], num)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"images_per_s": BATCH / seconds, "start_s": start, "peak_bytes": peak}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--short", action="store_true", help="one round of a few steps: does it run")
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    steps, batches = (20, 1) if options.short else (60, 4)
    if options.one:
        case, option = options.one
        print(json.dumps(one(case, option, steps if case == "training" else batches)))
        return
    rounds = 1 if options.short else options.rounds
    result = {
        "command": " ".join(["python", *sys.argv]), "torch": torch.__version__, "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"cpu, {os.cpu_count()} cores",
        "rounds": rounds, "cases": {},
    }  # fmt: skip
    for case, names in CASES.items():
        runs = {name: [] for name in names}
        for number in range(rounds):
            for name in names[:: -1 if number % 2 else 1]:
                command = [sys.executable, __file__, "--one", case, name, *(["--short"] if options.short else [])]
                malloc = {"GENZOO_MALLOC": "system"} if name == SYSTEM else {}
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env={**os.environ, **malloc}
                )
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
        rows = {
            name: {key: statistics.median(run[key] for run in many) for key in many[0]} | {"rounds": many}
            for name, many in runs.items()
        }
        for name, row in rows.items():
            row["to_defaults"] = row["images_per_s"] / rows["defaults"]["images_per_s"]
            print(
                f"{case:30} {name:36} {row['to_defaults']:6.2f}  start {row['start_s']:5.1f} s  "
                f"{row['peak_bytes'] / 2**20:6.0f} MiB",
                flush=True,
            )
        result["cases"][case] = rows
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
