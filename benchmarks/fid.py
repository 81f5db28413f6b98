"""FID by genzoo, clean-fid, pytorch-fid and torch-fidelity on the same files and network, side by side in one run.

    pip install pytorch-fid torch-fidelity          # clean-fid comes with genzoo
    python benchmarks/fid.py                        # some twenty minutes on two idle cores
    python benchmarks/fid.py --num 48 --rounds 1    # a short form
    python benchmarks/fid.py --weights inception-2015-12-05.pt --num 2000

Every tool runs in a process of its own, as its documentation has it used, and the tools take turns: `rounds` times
cold, and with the reference's statistics at hand. The time begins after imports and the loading of the network. In the
first round each stage is timed alone, too, by each tool's own functions. Without --weights the network is InceptionV3
with random weights in a TorchScript file of the published interface: the work is the same, the value is no FID.
clean-fid and genzoo resize alike and must agree; the other two resize by their own rules. Ratios are of medians. The
results go to results/fid.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from fid_tools import TOOLS
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

FILE = "inception-2015-12-05.pt"
STAGES = ("decode", "resize", "network", "statistics", "distance")


class Published(nn.Module):
    """The published file's interface: `layers` on resized, normalised images."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return self.layers((F.interpolate(x, size=[299, 299], mode="bilinear") - 128) / 128)


def random_network(path: Path) -> None:
    """InceptionV3 as pytorch-fid builds it, with random weights that keep the signal alive, as TorchScript."""
    from pytorch_fid import inception

    net = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for block, make in (("5b", (192, 32)), ("5c", (256, 64)), ("5d", (288, 64))):
        setattr(net, f"Mixed_{block}", inception.FIDInceptionA(make[0], pool_features=make[1]))
    for block, dim in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(net, f"Mixed_{block}", inception.FIDInceptionC(768, channels_7x7=dim))
    net.Mixed_7b, net.Mixed_7c = inception.FIDInceptionE_1(1280), inception.FIDInceptionE_2(2048)
    net.fc, net.dropout, net.transform_input = nn.Identity(), nn.Identity(), False
    torch.manual_seed(0)
    for weight in (p for p in net.parameters() if p.ndim == 4):
        nn.init.kaiming_normal_(weight)
    net.eval().requires_grad_(False)
    torch.jit.script(Published(torch.jit.trace(net, torch.zeros(1, 3, 299, 299)))).save(path)


def draw_images(folder: Path, seed: int, num: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for k in range(num):
        coarse = Image.fromarray(rng.integers(0, 256, (6 + seed, 6, 3), dtype=np.uint8))
        noise = rng.normal(0, 6, (size, size, 3))
        pixels = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) + noise
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k:06d}.png")


@torch.inference_mode()
def job(tool: str, what: str, folder: Path) -> dict:
    """One measurement, in this process. what: cold | prepare | cached | stages."""
    if tool == "genzoo":
        from genzoo.allocator import keep_freed_memory

        keep_freed_memory()  # as its command line does first
    made = TOOLS[tool](folder / FILE)
    samples, reference = folder / "samples", folder / "reference"
    start = time.perf_counter()
    if what == "prepare":
        made.prepare(reference)
        return {}
    if what == "stages":
        features = torch.randn(2, 4096, 2048, generator=torch.Generator().manual_seed(0)).relu()
        seconds, value = {}, None
        for name, work in made.stages(samples, features).items():
            start = time.perf_counter()
            value = work(value)
            seconds[name] = time.perf_counter() - start
        return {"stages": seconds}
    value = made.fid(samples, reference, what == "cached")
    seconds = time.perf_counter() - start
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"value": float(value), "seconds": seconds, "peak_mb": sum(peaks) / 1024}


def measure(tool: str, what: str, folder: Path) -> dict:
    """`job` in a fresh process."""
    env = {**os.environ, "GENZOO_CACHE": str(folder / "cache" / what)}
    if what in ("prepare", "cached"):
        env["GENZOO_CACHE"] = str(folder / "cache" / "kept")
        for path in (folder / "cache" / "kept").rglob("*.npz"):
            if what == "cached" and path.name not in json.loads((folder / "kept.json").read_text()):
                path.unlink()  # the samples' own, of the round before
    else:
        for path in (folder / "cache").rglob("*.npz"):
            if path.parts[-3] == what:
                path.unlink()
    command = [sys.executable, __file__, "--job", tool, what, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool} {what}: {done.stderr[-3000:]}")
    if what == "prepare" and tool == "genzoo":
        kept = [path.name for path in (folder / "cache" / "kept").rglob("*.npz")]
        (folder / "kept.json").write_text(json.dumps(kept))
    return json.loads(done.stdout.rpartition("RESULT")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num", type=int, default=256, help="images of each side")
    parser.add_argument("--size", type=int, default=64, help="their height and width in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, help=f"the true {FILE}")
    parser.add_argument("--tools", default=",".join(TOOLS), help="comma-separated")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fid.json")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        with contextlib.redirect_stdout(io.StringIO()):
            made = job(options.job[0], options.job[1], Path(options.job[2]))
        print("RESULT", json.dumps(made))
        return
    tools = options.tools.split(",")
    runs: dict[str, dict[str, list[dict]]] = {tool: {"cold": [], "cached": [], "stages": []} for tool in tools}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.weights:
            (folder / FILE).write_bytes(options.weights.read_bytes())
        else:
            random_network(folder / FILE)
        for seed, side in enumerate(("samples", "reference")):
            draw_images(folder / side, seed, options.num, options.size)
        for tool in tools:
            measure(tool, "prepare", folder)
        for number in range(options.rounds):
            for what in ("cold", "cached", *(["stages"] if number == 0 else [])):
                for tool in tools:
                    runs[tool][what].append(measure(tool, what, folder))
                    print(f"round {number + 1}: {tool} {what}", file=sys.stderr)
    results = summarise(runs, options)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    report(results)


def summarise(runs: dict, options: argparse.Namespace) -> dict:
    """Medians over the rounds."""
    from importlib.metadata import version

    rows = {}
    for tool, measured in runs.items():
        rows[tool] = {
            what: {key: median(run[key] for run in measured[what]) for key in ("seconds", "peak_mb", "value")}
            for what in ("cold", "cached")
        }
        rows[tool]["stages"] = {name: median(run["stages"][name] for run in measured["stages"]) for name in STAGES}
    return {
        "num": options.num,
        "size": options.size,
        "rounds": options.rounds,
        "weights": "published" if options.weights else "random",
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.system()},
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy", *TOOLS)},
        "tools": rows,
    }


def report(results: dict) -> None:
    rows = results["tools"]
    base = rows.get("clean-fid")
    print(
        f"{results['num']} images of {results['size']}x{results['size']} a side, medians of {results['rounds']} rounds"
    )
    for what in ("cold", "cached"):
        print(f"\n{what:16}{'seconds':>9}{'peak MB':>9}{'value':>12}{'x clean-fid':>13}")
        for tool, row in rows.items():
            ratio = f"{base[what]['seconds'] / row[what]['seconds']:.2f}" if base else ""
            cells = f"{row[what]['seconds']:9.2f}{row[what]['peak_mb']:9.0f}{row[what]['value']:12.4f}"
            print(f"{tool:16}{cells}{ratio:>13}")
    print(f"\n{'seconds':16}" + "".join(f"{name:>12}" for name in STAGES))
    for tool, row in rows.items():
        print(f"{tool:16}" + "".join(f"{row['stages'][name]:12.3f}" for name in STAGES))


if __name__ == "__main__":
    main()
