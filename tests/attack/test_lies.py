"""Run folders by a stranger who knows the format: digests agree, and what they are of is wrong."""

import json
import random
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from genzoo.fitted import _digest

DEEP = "[" * 100_000 + "]" * 100_000
VALUES = [
    None, True, -1, 0, 1e300, float("nan"), float("inf"), 10**30, "", "x", "9" * 5000, "\x1b]0;owned\x07\u202e",
    "<script>alert(1)</script>", [], [1], {}, {"x": 1}, {"dtype": "load"}, {"tensor": "x"}, {"dict": [1]}, [[[]]],
]  # fmt: skip
ODD = [torch.nan, torch.inf, -1.0, 0.0, 1e38]


def places(tree: object, place: tuple = ()) -> Iterator[tuple]:
    yield place
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, (*place, key))


def changed(rng: random.Random, tree: object) -> str:
    """JSON with a lie in one of its places, or without it."""
    chosen = rng.choice([place for place in places(tree) if len(place) < 7])
    if not chosen or rng.random() < 0.05:
        return rng.choice([DEEP, '{"step": ' + DEEP + "}", json.dumps(rng.choice(VALUES))])
    around = tree
    for step in chosen[:-1]:
        around = around[step]
    if rng.random() < 0.2:
        del around[chosen[-1]]
    else:
        around[chosen[-1]] = rng.choice(VALUES)
    return json.dumps(tree)


def lie(rng: random.Random, path: Path) -> None:
    if path.suffix == ".json":
        path.write_text(changed(rng, json.loads(path.read_text())))
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        k = rng.randrange(len(lines))
        lines[k] = changed(rng, json.loads(lines[k]))
        path.write_text("\n".join(lines) + "\n")
    else:
        lie_in_tensors(rng, path)


def lie_in_tensors(rng: random.Random, path: Path) -> None:
    with safe_open(path, "pt") as opened:
        about = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    name = rng.choice(sorted(tensors))
    match rng.randrange(6):
        case 0:
            tensors[name] = torch.full_like(tensors[name], rng.choice(ODD) if tensors[name].is_floating_point() else 9)
        case 1:
            tensors[name] = tensors[name].to(rng.choice([torch.float64, torch.int64, torch.bool, torch.float16]))
        case 2:
            tensors[name] = torch.zeros(rng.choice([(), (0,), (1, 1, 1, 1, 1), (1000, 1000)]))
        case 3:
            del tensors[name]
        case 4:
            tensors[rng.choice(["", "x" * 9000, "\x1b]0;owned\x07", "../x"])] = torch.zeros(2)
        case 5 if about:
            key = rng.choice(sorted(about))
            is_json = key == "fitted" and rng.random() < 0.9
            about[key] = changed(rng, json.loads(about[key])) if is_json else rng.choice(["", "x", DEEP, "\x1b[0m"])
    if "sha256" in about:
        about["sha256"] = _digest(about.get("fitted", ""), tensors)
    save_file(tensors, path, about)


def agree(checkpoint: Path) -> None:
    files = sorted(path for path in checkpoint.iterdir() if path.name != "manifest.json")
    digests = {path.name: sha256(path.read_bytes()).hexdigest() for path in files}
    (checkpoint / "manifest.json").write_text(json.dumps(digests))


def assail(attack, finished: Path, num: int, seed: int) -> None:
    rng, folder = random.Random(seed), attack.root / "case"
    kept = [
        str(path.relative_to(finished))
        for path in sorted(finished.rglob("*"))
        if path.suffix in (".json", ".jsonl", ".safetensors") and path.name != "manifest.json"
    ]
    for _ in range(num):
        shutil.copytree(finished, folder)
        name = rng.choice(kept)
        lie(rng, folder / name)
        for checkpoint in (folder / "checkpoints").iterdir():
            agree(checkpoint)
        own, out = str(folder), str(folder / "o")
        if rng.random() < 0.1:
            (folder / "recipe.yaml").unlink()
        commands = [
            ["sample", own, "--num", "2", "--out", out, "--sampler", "gmm"],
            ["eval", own],
            ["compare", own, str(finished), "--html", f"{out}.html"],
            ["report", own, "--out", f"{out}.html"],
            ["fid", f"{own}:gmm", str(finished), "--metric", "fd", "--features", "pixels", "--num", "2"],
            ["run", str(finished / "recipe.yaml"), "train.steps=3", "--out", own, "--resume"],
            ["export", own, "--to", "hf", "--out", out],
        ]
        command = rng.choice(commands)
        attack.case("lies", f"{name} {command[0]}", folder, [command])
    assert not attack.told(), f"{attack.report()}\n{attack.told()}"


def test_files_that_agree_on_a_lie(attack, finished):
    assail(attack, finished, 25, 0)


@pytest.mark.long
def test_hundreds_of_files_that_agree_on_a_lie(attack, finished):
    assail(attack, finished, 400, 1)
