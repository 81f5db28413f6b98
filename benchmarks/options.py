"""What single options gain or cost: training, and evaluation networks, with one thing changed, side by side in one run.

    python benchmarks/options.py [--short] [--out benchmarks/results/options.json]

Training is genzoo's of the medium network of benchmarks/training.py at 32x32, with everything on; scoring is a features
part on batches of 100 images of 32x32. Each is a process of its own; they take turns, and ratios are of the turns'
medians. What the first turn costs beyond its share (compiling, for one) is counted apart, as the start. InceptionV3 has
random weights, and is left out where pytorch-fid, which describes it, is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from trainers import BATCH, DEVICE, NETWORKS, parts, say, stored_images, wait_for_turn
from training import Contestant, take_turns

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


def train(option: str, steps: int, num_turns: int) -> None:
    """The first turn warms up and compiles. A turn ends where the trainer lets a picture be drawn."""
    from genzoo.training.config import TrainConfig
    from genzoo.training.step import Step
    from genzoo.training.trainer import train

    began = time.perf_counter()

    def picture(model: torch.nn.Module, step: int) -> None:
        nonlocal began
        wait_for_turn(time.perf_counter() - began)
        began = time.perf_counter()

    model, objective = parts(NETWORKS["medium"], 32)
    config = TrainConfig(
        steps=steps * (1 + num_turns), batch_size=BATCH, ema=0.999, log_every=10, checkpoint_every=0, panel_every=steps,
        **TRAINING[option],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # nothing compiled before is found
        images = stored_images(32, folder)
        began = time.perf_counter()
        train(
            Step(model, objective, activation_checkpointing=config.activation_checkpointing),
            images,
            config,
            folder=folder / "run",
            seed=0,
            panel=picture,
            progress=False,
        )


def score(features: str, batches: int, num_turns: int) -> None:
    from fid import FILE, random_network

    from genzoo.config import build
    from genzoo.features import inception
    from genzoo.files import sha256
    from genzoo.registry import FEATURES

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        options = {"name": features}
        if features == "inception":
            random_network(Path(folder) / FILE)
            options["weights"] = Path(folder) / FILE
            inception.trusted.add(sha256(options["weights"]))
        net = build(FEATURES, FEATURES.get(features).Config(**options)).to(DEVICE)
        images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, device=DEVICE)
        for _ in range(1 + num_turns):
            began = time.perf_counter()
            for _ in range(batches):
                net(images).sum().item()
            wait_for_turn(time.perf_counter() - began)


def one(case: str, option: str, num: int, num_turns: int) -> None:
    from genzoo.allocator import keep_freed_memory

    keep_freed_memory()  # unless the environment says otherwise
    if case == "training":
        train(option, num, num_turns)
    else:
        score(case.partition(", ")[2], num, num_turns)
    say({"peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})


def race(case: str, num: int, num_turns: int) -> dict[str, dict]:
    """option -> row of the results; num: steps, or batches, a turn."""
    running = {
        option: Contestant(
            __file__, "--one", case, option, num, num_turns, **({"GENZOO_MALLOC": "system"} if option == SYSTEM else {})
        )
        for option in CASES[case]
    }
    turns, ends = take_turns(running, num_turns)
    seconds = {option: statistics.median(took) for option, took in turns.items()}
    return {
        option: {
            "images_per_s": BATCH * num / seconds[option],
            "to_defaults": seconds["defaults"] / seconds[option],
            "start_s": running[option].warm_up - seconds[option],
            **ends[option],
            "turns": turns[option],
        }
        for option in running
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--short", action="store_true", help="one round of a few steps: does it run")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.one:
        case, option, num, num_turns = options.one
        one(case, option, int(num), int(num_turns))
        return
    rounds = 1 if options.short else options.rounds
    result = {
        "command": " ".join(["python", *sys.argv]), "torch": torch.__version__, "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"cpu, {os.cpu_count()} cores",
        "rounds": rounds, "cases": {},
    }  # fmt: skip
    for case in CASES:
        num = 1 if case != "training" else 3 if options.short else 15
        rows = result["cases"][case] = race(case, num, rounds)
        for option, row in rows.items():
            print(
                f"{case:30} {option:36} {row['to_defaults']:6.2f}  start {row['start_s']:5.1f} s  "
                f"{row['peak_bytes'] / 2**20:6.0f} MiB",
                flush=True,
            )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
