"""What single options gain or cost: training, and evaluation networks, with one thing changed, side by side in one run.

    python benchmarks/options.py [--short] [--out benchmarks/results/options.json]

Training is genzoo's of benchmarks/training.py on the medium network at 32x32, with everything on; scoring is a features
part on batches of 100 images of 32x32. Each measurement is a process of its own; rounds alternate, and ratios are of
medians. Start-up, compiling and the first steps are not counted. InceptionV3 has random weights, and is left out where
pytorch-fid, which describes it, is not installed.
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
from training import BATCH, DEVICE, NETWORKS, ROOT, run_genzoo

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


def train(option: str, steps: int) -> float:
    options = {"precision": "auto", **TRAINING[option]}
    with tempfile.TemporaryDirectory() as folder:
        return run_genzoo(NETWORKS["medium"], 32, steps, options.pop("precision"), Path(folder), **options)


def score(features: str, batches: int) -> float:
    """Seconds a batch."""
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
            net(images)
            start = time.perf_counter()
            for _ in range(batches):
                net(images).sum().item()
            return (time.perf_counter() - start) / batches


def one(case: str, option: str, num: int) -> dict:
    from genzoo.allocator import keep_freed_memory

    keep_freed_memory()  # unless the environment says otherwise
    seconds = train(option, num) if case == "training" else score(case.partition(", ")[2], num)
    return {"images_per_s": BATCH / seconds, "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--short", action="store_true", help="one round of a few steps: does it run")
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    steps, batches = (8, 1) if options.short else (60, 4)
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
        rates = {name: statistics.median(run["images_per_s"] for run in many) for name, many in runs.items()}
        result["cases"][case] = {
            name: {
                "images_per_s": rates[name],
                "to_defaults": rates[name] / rates["defaults"],
                "peak_bytes": statistics.median(run["peak_bytes"] for run in many),
                "rounds": many,
            }
            for name, many in runs.items()
        }
        for name, row in result["cases"][case].items():
            print(f"{case:30} {name:36} {row['to_defaults']:6.2f}  {row['peak_bytes'] / 2**20:6.0f} MiB", flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
