"""Stage two side by side: steps of samplers that learn beside a bare loop, whole fits beside an older checkout's, and
one process beside two.

    python benchmarks/stage_two.py [--short] [--before DIR] [--clock cpu] [--out benchmarks/results/stage_two.json]

Contestants take turns of some seconds in processes of their own, the order reversed in every other round; ratios are of
the turns' medians. genzoo trains as a run does: from a memory map, with its log; the bare loop holds its latents as
float32 tensors and does nothing but train the same network, with the same optimizer, clipping and cosine. The first
steps are not counted. `before` is the genzoo of another checkout: whole fits of the small flow matching with its
defaults, start and end included. Two processes have one thread each, as the one has; batches are as large in all.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from training import CLOCKS, MARK, ROOT, Contestant, cores, say, take_turns

NUM, WARM_UP = 10_000, 10  # latents, and steps that are not counted
CASES = {  # options; the latent's shape, or the grid of codes and their number
    "flow_matching": ({"name": "flow_matching"}, (32,), None),
    "dit": (
        {"name": "flow_matching", "network": "dit", "hidden_dim": 128, "num_layers": 4, "patch_size": 2,
         "batch_size": 64, "lr": 1e-3}, (4, 8, 8), None,
    ),
    "autoregressive": ({"name": "autoregressive", "batch_size": 128}, (4, 4), 512),
}  # fmt: skip


def made(case: str, steps: int) -> tuple[nn.Module, np.ndarray]:
    """The sampler, and what it is to learn."""
    from genzoo.config import build
    from genzoo.registry import SAMPLERS

    options, shape, num_codes = CASES[case]
    config = SAMPLERS.get(options["name"]).Config(**options, **({"steps": steps} if steps else {}))
    rng = np.random.default_rng(0)
    if num_codes:
        sampler = build(SAMPLERS, config, latent_shape=shape, num_codes=num_codes, grid=shape)
        return sampler, rng.integers(0, num_codes, (NUM, *shape), dtype=np.uint16)
    rows = np.stack([rng.normal(size=(NUM, *shape)), rng.uniform(size=(NUM, *shape))], 1)
    return build(SAMPLERS, config, latent_shape=shape), rows.astype(np.float32)


def fit(sampler: nn.Module, rows: np.ndarray) -> None:
    """As a run does it; older checkouts' samplers fit themselves."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.npy")
        np.save(file, rows)
        rows = np.load(file, mmap_mode="c")
        if hasattr(sampler, "fit"):
            sampler.fit(*(torch.from_numpy(rows[:, k]) for k in (0, 1)), 0)
        else:
            from genzoo import stage_two

            stage_two.fit(sampler, rows, 0, folder=Path(folder, "sampler"))


class Timed:
    """Stands for a sampler's loss: the seconds from one call of it to another."""

    def __init__(self, sampler: nn.Module, num: int, clock):
        self.loss, self.num, self.clock, self.calls = sampler.loss, num, clock, 0
        sampler.loss = self

    def __call__(self, *words):
        if self.calls == WARM_UP:
            self.began = self.clock()
        if self.calls == WARM_UP + self.num:
            self.seconds = self.clock() - self.began
        self.calls += 1
        return self.loss(*words)


def turn_of_genzoo(case: str, steps: int, clock) -> float:
    sampler, rows = made(case, WARM_UP + steps + 1)
    timed = Timed(sampler, steps, clock)
    fit(sampler, rows)
    return timed.seconds


def turn_of_bare(case: str, steps: int, clock) -> float:
    """A loop as scripts write it."""
    sampler, rows = made(case, steps)
    network, config = sampler.network.train(), sampler.config
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, config.lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 + 0.5 * math.cos(math.pi * i / steps))
    if codes := CASES[case][2] is not None:
        data = torch.from_numpy(rows.astype(np.int64)).flatten(1)
    else:
        mean, spread = torch.from_numpy(rows[:, 0].copy()), torch.from_numpy(rows[:, 1].copy()).sqrt()
    for i in range(WARM_UP + steps + 1):
        if i == WARM_UP:
            began = clock()
        if i == WARM_UP + steps:
            return clock() - began
        index = torch.randint(NUM, (config.batch_size,))
        if codes:
            batch = data[index]
            logits = network(F.pad(1 + batch[:, :-1], (1, 0)), causal=True)
            loss = F.cross_entropy(logits.flatten(0, 1), batch.flatten())
        else:
            z = mean[index] + spread[index] * torch.randn(config.batch_size, *mean.shape[1:])
            x0, t = torch.randn_like(z), torch.rand(config.batch_size)
            x = torch.lerp(x0, z, t.view(-1, *[1] * (z.ndim - 1)))
            loss = F.mse_loss(network(x, t), z - x0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_grad_norm)
        optimizer.step()
        schedule.step()


def whole_fit(case: str, steps: int, clock) -> float:
    sampler, rows = made(case, steps)
    began = clock()
    fit(sampler, rows)
    return clock() - began


TURNS = {"genzoo": turn_of_genzoo, "bare": turn_of_bare, "fit": whole_fit}


def one(kind: str, case: str, steps: int, rounds: int, clock) -> None:
    """A contestant's process."""
    from genzoo.allocator import keep_freed_memory

    keep_freed_memory()  # as genzoo's command line does; for all
    turn = TURNS[kind]
    say({"seconds": turn(case, min(steps, 20) if kind == "fit" else steps, clock)})
    for _ in range(rounds):
        sys.stdin.readline()
        say({"seconds": turn(case, steps, clock)})
    sys.stdin.readline()
    say({})


def contestant(kind: str, case: str, steps: int, options: argparse.Namespace, tree: Path = ROOT) -> Contestant:
    words = ["--one", f"{kind},{case},{steps}", "--rounds", options.rounds, "--clock", options.clock]
    return Contestant(Path(__file__).resolve(), *words, PYTHONPATH=str(tree))


def race(case: str, options: argparse.Namespace) -> dict:
    """Steps of genzoo beside the bare loop's."""
    probe = TURNS["bare"](case, 5, CLOCKS[options.clock])
    steps = max(5, round(options.seconds * 5 / probe))
    running = {kind: contestant(kind, case, steps, options) for kind in ("genzoo", "bare")}
    turns, _ = take_turns(running, options.rounds)
    ms = {kind: 1000 * statistics.median(took) / steps for kind, took in turns.items()}
    return {"steps_a_turn": steps, "ms_a_step": ms, "to_bare": ms["bare"] / ms["genzoo"], "turns": turns}


def beside(before: Path, options: argparse.Namespace) -> dict:
    """Whole fits of the small flow matching beside another checkout's."""
    steps = 50 if options.short else 3000  # its default
    running = {
        name: contestant("fit", "flow_matching", steps, options, tree)
        for name, tree in (("genzoo", ROOT), ("before", before.resolve()))
    }
    turns, _ = take_turns(running, options.rounds)
    seconds = {name: statistics.median(took) for name, took in turns.items()}
    return {"steps": steps, "seconds": seconds, "to_before": seconds["genzoo"] / seconds["before"], "turns": turns}


def processes(case: str, options: argparse.Namespace) -> dict:
    """The same steps by one process and by two, a thread each."""
    steps = max(5, round(options.seconds * 5 / TURNS["bare"](case, 5, CLOCKS["wall"])))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    turns: dict[int, list[float]] = {1: [], 2: []}
    for number in range(options.rounds):
        for num in (1, 2) if number % 2 else (2, 1):
            done = subprocess.run(
                [*launcher, str(num), str(Path(__file__).resolve()), "--one", f"together,{case},{steps}"],
                capture_output=True, text=True, check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            said = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
            turns[num].append(json.loads(said.removeprefix(MARK))["seconds"])
    seconds = {num: statistics.median(took) for num, took in turns.items()}
    return {"steps_a_turn": steps, "seconds": seconds, "times_faster": seconds[1] / seconds[2], "turns": turns}


def together(case: str, steps: int) -> None:
    """One of the processes."""
    from genzoo.launch import launched

    launch = launched()
    with launch.ends_as_one():
        seconds = turn_of_genzoo(case, steps, CLOCKS["wall"])
        if launch.is_main:
            say({"seconds": seconds})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round of few steps: does it run")
    parser.add_argument("--seconds", type=float, default=3, help="of training in a turn of the bare loop, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout to compare whole fits with")
    parser.add_argument("--processes", nargs="*", choices=CASES, default=[*CASES], help="cases of two beside one")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: where others use the machine, too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, case, steps = options.one.split(",")
        if kind == "together":
            together(case, int(steps))
        else:
            one(kind, case, int(steps), options.rounds, CLOCKS[options.clock])
        return
    if options.short:
        options.seconds, options.rounds = 0.3, 1
    result = {
        "command": " ".join(["python", *sys.argv]), "torch": torch.__version__, "python": platform.python_version(),
        "device": cores(), "clock": options.clock, "rounds": options.rounds,
        "steps": {}, "processes": {},
    }  # fmt: skip
    for case in options.cases:
        row = result["steps"][case] = race(case, options)
        print(f"{case:15} {row['ms_a_step']['genzoo']:8.2f} ms a step, {row['to_bare']:.3f} of bare", flush=True)
    if options.before:
        row = result["fit"] = beside(options.before, options)
        print(
            f"flow_matching, whole fit: {row['seconds']['genzoo']:.2f} s, {row['to_before']:.3f} of before", flush=True
        )
    for case in options.processes:
        row = result["processes"][case] = processes(case, options)
        print(f"{case:15} two processes are {row['times_faster']:.2f} times as fast as one", flush=True)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
