"""A machine that gives out: full disks, few open files, no home, a cache or an output that cannot be written, signals.

Every command ends in order: exit code 0, 1, 2 or 130, no traceback, and where it was refused one sentence with a path.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own, for whoever may mount one."""
    place.mkdir()
    options = ["-o", f"size={megabytes}m", "none", str(place)]
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, check=False).returncode:
        pytest.skip("small disks are mounted by root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


def writers(run: Path, disk: Path, latents: Path, images: Path) -> dict[str, list[str]]:
    """Commands that write onto the disk, by name."""
    out = str(disk / "out")
    return {
        "sample": ["sample", str(run), "--num", "200", "--out", out],
        "encode": ["encode", str(run), str(images), "--out", f"{out}.npz"],
        "decode": ["decode", str(run), str(latents), "--out", out],
        "reconstruct": ["reconstruct", str(run), str(images), "--out", out],
        "panels": ["panels", str(run), "--out", out],
        "report": ["report", str(run), "--out", f"{out}.html"],
        "stats": ["stats", str(images), "--features", "pixels", "--out", f"{out}.npz"],
        "eval": ["eval", str(disk / "run"), "samplers=[{name: gmm, num_components: 3}]"],
        "run": ["run", str(run / "recipe.yaml"), "--out", out],
        "resume": ["run", str(run / "recipe.yaml"), "train.steps=4", "--out", str(disk / "run"), "--resume"],
        "cp": ["recipes", "cp", "vae_digits", f"{out}.yaml"],
        "new": ["new", "decoder", "mine", "--out", out],
        "export": ["export", str(run), "--out", out],
    }


def assail_disks(attack, finished: Path, sound: Path, names: list[str], free: list[int]) -> None:
    for name in names:
        for num_bytes in free:
            with small_disk(attack.root / "disk", 8) as disk:
                shutil.copytree(finished, disk / "case" / "run")
                (disk / "filler").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - num_bytes)))
                command = writers(finished, disk / "case", sound / "z.npz", sound / "images")[name]
                attack.case("full disk", f"{name} with {num_bytes} bytes", disk / "case", [command])
    assert not attack.told(), f"{attack.report()}\n{attack.told()}"


def test_a_full_disk(attack, finished, sound):
    assail_disks(attack, finished, sound, ["sample", "encode", "stats", "report", "eval"], [0, 8192])
    assert attack.kinds["full disk"]["refused"] >= 6


@pytest.mark.long
def test_a_full_disk_at_every_command(attack, finished, sound):
    assail_disks(attack, finished, sound, list(writers(*[Path()] * 4)), [0, 4096, 40_960, 200_000, 800_000])


def test_links_that_lead_nowhere(attack, finished, sound):
    for name in writers(*[Path()] * 4):
        if name in ("eval", "resume", "new", "export"):
            continue
        folder = attack.root / "case"
        folder.mkdir()
        for suffix in ("", ".npz", ".html", ".yaml"):
            (folder / f"out{suffix}").symlink_to(folder / "gone" / "away")
        attack.case("dangling", name, folder, [writers(finished, folder, sound / "z.npz", sound / "images")[name]])
    assert not attack.told(), f"{attack.report()}\n{attack.told()}"


def spoiled(kind: str, folder: Path) -> dict:
    """What subprocess.Popen is told, to start the command on a machine that gives out in that way."""
    alone = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "GENZOO_CACHE")}
    alone["GENZOO_CACHE"] = os.environ["GENZOO_CACHE"]
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))  # noqa: E731
    match kind:
        case "32 open files":
            return {"env": alone, "preexec_fn": few}
        case "closed stdout":
            return {"env": alone, "preexec_fn": lambda: os.close(1), "stdout": None}
        case "full stdout":
            return {"env": alone, "stdout": open("/dev/full", "wb")}
        case "a cache that is a file":
            (folder / "cache").write_text("")
            return {"env": alone | {"GENZOO_CACHE": str(folder / "cache")}}
        case "a cache in /proc":
            return {"env": alone | {"GENZOO_CACHE": "/proc/genzoo"}}
        case "no home":
            gone = {key: value for key, value in alone.items() if key not in ("HOME", "USER", "LOGNAME")}
            return {"env": gone | {"HOME": "/nowhere/at/all"}}
        case "no temporary folder":
            return {"env": alone | {"TMPDIR": "/nowhere"}}
        case "no working folder":
            (folder / "here").mkdir()
            return {"env": alone, "cwd": folder / "here", "preexec_fn": (folder / "here").rmdir}
    raise ValueError(kind)


KINDS = [
    "32 open files", "closed stdout", "full stdout", "a cache that is a file", "a cache in /proc", "no home",
    "no temporary folder", "no working folder",
]  # fmt: skip


def ended(words: list[str], seconds: float = 100, signals: tuple[float, int] | None = None, **options) -> tuple:
    """(outcome, stderr) of one command line."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
    process = subprocess.Popen([sys.executable, "-m", "genzoo", *words], **options)
    if signals:
        time.sleep(signals[0])
        process.send_signal(signals[1])
    said = process.communicate(timeout=seconds)[1].decode(errors="replace")
    faulty = process.returncode not in (0, 1, 2, 130) or "Traceback" in said or "failed:" in said
    return "fault" if faulty else ["accepted", "accepted", "refused"][process.returncode % 128], said


def assail_machines(finished: Path, sound: Path, tmp_path: Path, cases: list[tuple[str, str]]) -> None:
    counts, faults = {}, {}
    for k, (kind, name) in enumerate(cases):
        folder = tmp_path / str(k)
        folder.mkdir()
        shutil.copytree(finished, folder / "run")
        words = writers(finished, folder, sound / "z.npz", sound / "images")[name]
        outcome, said = ended(words, **({"cwd": folder} | spoiled(kind, folder)))
        counts.setdefault(kind, Counter()).update([outcome, "tried"])
        if outcome == "fault":
            faults[f"{kind}: {name}"] = said[-2000:]
    for kind, n in counts.items():
        print(f"{kind:24} tried {n['tried']:3}  refused {n['refused']:3}  accepted {n['accepted']:3}  "
              f"faults {n['fault']:3}")  # fmt: skip
    assert not faults, "\n\n".join(f"{name}\n{said}" for name, said in faults.items())


def test_machines_that_give_out(finished, sound, tmp_path):
    cases = [("32 open files", "sample"), ("a cache in /proc", "eval"), ("full stdout", "encode")]
    assail_machines(finished, sound, tmp_path, cases)


@pytest.mark.long
def test_every_command_on_machines_that_give_out(finished, sound, tmp_path):
    names = [name for name in writers(*[Path()] * 4) if name != "export"]
    assail_machines(finished, sound, tmp_path, [(kind, name) for kind in KINDS for name in names])


def assail_moments(num: int, seed: int, tmp_path: Path, finished: Path) -> None:
    rng, counts, faults = random.Random(seed), Counter(), {}
    for k in range(num):
        name = rng.choice(["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU"] if k % 2 else ["SIGINT"])
        after = rng.uniform(0.15, 4)
        words = ["run", str(finished / "recipe.yaml"), "--out", str(tmp_path / str(k))]
        alone = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}
        outcome, said = ended(words, cwd=tmp_path, env=alone, signals=(after, getattr(signal, name)))
        if outcome == "fault" and name != "SIGINT" and not said:  # before there was anything to end in order
            outcome = "accepted"
        counts.update([outcome, "tried"])
        if outcome == "fault":
            faults[f"{name} after {after:.2f} s"] = said[-2000:]
    print(f"{'moments':24} tried {counts['tried']:3}  in order {counts['tried'] - counts['fault']:3}  "
          f"faults {counts['fault']:3}")  # fmt: skip
    assert not faults, "\n\n".join(f"{name}\n{said}" for name, said in faults.items())


def test_signals_in_the_first_moments(tmp_path, finished):
    assail_moments(4, 0, tmp_path, finished)


@pytest.mark.long
def test_signals_at_any_moment(tmp_path, finished):
    assail_moments(100, 1, tmp_path, finished)
