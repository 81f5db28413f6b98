"""Training speed side by side: genzoo, a bare loop, pythae's trainer, a Lightning module; and the data feeds alone.

    python benchmarks/training.py [--short] [--precision bf16] [--out benchmarks/results/training.json]
    python benchmarks/training.py --families vae split vq --networks medium --sizes 32 [--before DIR] [--clock cpu]

Every contestant trains the same network (from genzoo's parts: a VAE, a Split VAE or a VQ-VAE) on uint8 images at the
same batch size, in a process of its own. They take turns of some seconds, the order reversed in every other round, so
that a machine that is faster now and slower then favours nobody; ratios are of the turns' medians. genzoo runs with
everything on: data from a memory map, EMA, log lines, and a checkpoint and a picture, whose cost is measured once and
spread over the default interval between two of them. The bare loop has its images as float32 on the device and does
nothing but train, so the share of a contestant's time outside the model is 1 - its images/s over the bare loop's; the
codebook and the loss of its VQ-VAE, too, are written as scripts have them. `before` is the genzoo of another checkout.
Start-up and the first steps are not counted. pythae's mixed precision is CUDA's: on a CPU it trains in fp32 whatever is
asked. pythae and lightning are left out where they are not installed: pip install pythae lightning.
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
from itertools import islice, product
from pathlib import Path

import torch
import trainers
from trainers import (
    BATCH,
    DEVICE,
    FAMILIES,
    MARK,
    NETWORKS,
    NUM_IMAGES,
    RUNNERS,
    WARM_UP,
    loader,
    parts,
    say,
    stored_images,
)

ROOT = Path(__file__).parent.parent
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}  # of a contestant's process, all its threads
NEEDS = {"genzoo": "genzoo", "bare": "torch", "pythae": "pythae", "lightning": "lightning"}


def one(name: str, base_dim: int, size: int, turn: int, num_turns: int, precision: str, family: str) -> None:
    """A contestant's process."""
    from genzoo.allocator import keep_freed_memory

    if name in ("genzoo", "bare"):  # as genzoo's command line does, so that the two differ by the trainer alone
        keep_freed_memory()  # the others train as their users start them
    steps = WARM_UP + turn * num_turns + 1
    with tempfile.TemporaryDirectory() as folder:
        more = RUNNERS[name](base_dim, size, steps, turn, precision, Path(folder), family) or {}
    peak = (
        torch.cuda.max_memory_allocated()
        if DEVICE.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    num_parameters = sum(p.numel() for p in parts(base_dim, size, family)[0].parameters())
    say({"peak_bytes": peak, "num_parameters": num_parameters, **more})


class Contestant:
    """Such a process, from outside. warm_up: the seconds it gives for that."""

    def __init__(self, *words: object, **environment: str):
        self._process = subprocess.Popen(
            [sys.executable, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, **environment},
        )  # fmt: skip
        self.warm_up = self._said()["seconds"]

    def go_on(self) -> dict:
        """Let it train until it has something to say."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._said()

    def _said(self) -> dict:
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise SystemExit(f"a contestant has ended: {' '.join(self._process.args)}")


def take_turns(running: dict[str, Contestant], rounds: int) -> tuple[dict[str, list[float]], dict[str, dict]]:
    """The seconds of each one's turns, and what it says at its end."""
    turns = {name: [] for name in running}
    for number in range(rounds):
        for name in [*running][:: -1 if number % 2 else 1]:
            turns[name].append(running[name].go_on()["seconds"])
    return turns, {name: contestant.go_on() for name, contestant in running.items()}


def race(
    names: list[str], family: str, network: str, size: int, rounds: int, options: argparse.Namespace
) -> list[dict]:
    """A row of the results for each contestant."""

    def contestant(name: str, turn: int, num_turns: int) -> Contestant:
        here = options.before if name == "before" else ROOT
        numbers = ",".join(map(str, (name.replace("before", "genzoo"), NETWORKS[network], size, turn, num_turns)))
        words = ["--one", numbers, "--precision", options.precision]
        words += ["--families", family] if family != "vae" else []  # what an early checkout's file does not know
        words += ["--clock", options.clock] if options.clock != "wall" else []
        return Contestant(here / "benchmarks" / "training.py", *words, PYTHONPATH=str(here))

    probe = contestant("bare", 3, 1)
    turn = max(2, round(3 * options.seconds / probe.go_on()["seconds"]))
    probe.go_on()
    turns, ends = take_turns({name: contestant(name, turn, rounds) for name in names}, rounds)
    rates = {
        name: BATCH / (statistics.median(took) / turn + ends[name].pop("now_and_then", 0))
        for name, took in turns.items()
    }
    return [
        {
            "family": family, "network": network, "size": size, "trainer": name, "steps_a_turn": turn,
            "images_per_s": rates[name], "to_bare": rates[name] / rates["bare"],
            "outside_the_model": 1 - rates[name] / rates["bare"], "genzoo_to_this": rates["genzoo"] / rates[name],
            **ends[name], "turns": turns[name],
        }
        for name in names
    ]  # fmt: skip


def feeds(size: int, seconds: float) -> dict[str, float]:
    """Images/s of the data feeds alone, on the CPU, each for some seconds after a warm-up."""
    from genzoo.training.feed import Feed

    with tempfile.TemporaryDirectory() as folder:
        images = stored_images(size, Path(folder))
        found = {"genzoo": _rate(Feed(images, BATCH, 0, device=torch.device("cpu")).batches(0), seconds)}

        def epochs():
            data = loader(images)
            while True:
                yield from (batch for batch, _ in data)

        found["torchvision, 2 workers"] = _rate(epochs(), seconds)
        if find_spec("pythae"):
            from pythae.data.datasets import BaseDataset

            data = BaseDataset(torch.rand(NUM_IMAGES, 3, size, size), torch.zeros(NUM_IMAGES))

            def pythae_epochs():
                while True:
                    yield from torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)

            found["pythae"] = _rate(({"data": batch["data"]} for batch in pythae_epochs()), seconds)
    return found


def _rate(batches, seconds: float) -> float:
    next(batches)
    num, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        num += sum(BATCH for _ in islice(batches, 10))
    return num / (time.perf_counter() - start)


def cores() -> str:
    used, there = torch.get_num_threads(), os.cpu_count()
    return f"cpu, {there} cores" if used == there else f"cpu, {used} of {there} cores"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--short", action="store_true", help="one round of few steps of the small network: does it run"
    )
    arguments.add_argument("--seconds", type=float, default=3, help="of training in a turn of the bare loop, about")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--precision", choices=["fp32", "bf16"], default="bf16" if DEVICE.type == "cuda" else "fp32")
    arguments.add_argument("--families", nargs="+", choices=FAMILIES, default=["vae"])
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    arguments.add_argument("--sizes", nargs="+", type=int, default=[32, 64])
    arguments.add_argument("--before", type=Path, metavar="DIR", help="a checkout whose genzoo is another contestant")
    arguments.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: where others use the machine, too")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    trainers.clock = CLOCKS[options.clock]
    if options.one:
        name, *numbers = options.one.split(",")
        one(name, *map(int, numbers), options.precision, options.families[0])
        return
    if options.short:
        options.seconds, options.rounds, options.networks, options.sizes = 1, 1, ["small"], [32]
    names = [name for name, package in NEEDS.items() if find_spec(package)] + ["before"] * bool(options.before)
    result = {
        "command": " ".join(["python", *sys.argv]), "torch": torch.__version__, "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else cores(),
        "precision": options.precision, "clock": options.clock, "batch_size": BATCH, "rounds": options.rounds,
        "training": [],
    }  # fmt: skip
    for size, network, family in product(options.sizes, options.networks, options.families):
        fit = [name for name in names if family == "vae" or name in ("genzoo", "bare", "before")]  # others have no such
        for row in race(fit, family, network, size, options.rounds, options):
            result["training"].append(row)
            print(
                f"{size}px {network:10} {family:6} {row['trainer']:10} {row['images_per_s']:8.1f} images/s "
                f"{row['to_bare']:6.3f} of bare {row['peak_bytes'] / 2**20:6.0f} MiB",
                flush=True,
            )
    result["feeds"] = {f"{size}px": feeds(size, 0.5 if options.short else 10) for size in options.sizes}
    for size, found in result["feeds"].items():
        for name, rate in found.items():
            print(f"{size} feed {name:24} {rate:12.0f} images/s  (genzoo: {found['genzoo'] / rate:.1f}x)")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
