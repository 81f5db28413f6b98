"""Two processes at once at the same place: each ends in order, and what is there afterwards is whole."""

import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

Commands = list[list[str]]
FID = ["--metric", "fd", "--features", "pixels", "--allow-few"]


def races(run: Path, sound: Path, folder: Path) -> dict[str, tuple[Commands, Commands, Commands]]:
    """name -> what one does, what the other does, what must then be accepted. The folder has copies: run, images."""
    recipe, images, latents = (str(path) for path in (run / "recipe.yaml", sound / "images", sound / "z.npz"))
    own, new, mine, out, after = (str(folder / name) for name in ("run", "new", "images", "out", "after"))
    begin, long = ["run", recipe, "--out", new], ["run", recipe, "train.steps=40", "--out", new]
    resume = ["run", recipe, "train.steps=4", "--out", own, "--resume"]
    fit = [["eval", own, f"samplers=[{{name: gmm, num_components: {k}}}]"] for k in (2, 3)]
    prepare = ["data", "prepare", "folder", f"root={mine}", "size=8"]
    score, stats = ["fid", f"{own}:gmm", mine, *FID], ["stats", mine, "--features", "pixels", "--out", f"{out}.npz"]
    of_new, of_own = (["sample", one, "--num", "2", "--out", after] for one in (new, own))
    encode, decode = ["encode", own, images, "--out", f"{out}.npz"], ["decode", own, latents, "--out", out]
    made = [["new", "decoder", "mine", "--out", out], ["recipes", "cp", "vae_digits", f"{out}.yaml"]]
    gone = [["cache", "ls"], ["cache", "rm", "all"]] * 2
    export = ["export", own, "--to", "hf", "--out", out]
    return {
        "run and run": ([begin], [begin], [of_new]),
        "run and another": ([begin], [long], [of_new]),
        "run and its samples": ([long], [["sample", new, "--num", "1", "--out", f"{out}{k}"] for k in range(4)], [of_new]),
        "run and its scores": ([long], [["fid", new, images, *FID]] * 3, [["fid", new, images, *FID]]),
        "run and its reports": ([long], [["report", new, "--out", f"{out}{k}.html"] for k in range(3)], [["report", new]]),
        "run and eval": ([long], [["eval", new]] * 3, [of_new]),
        "resume and resume": ([resume], [resume], [of_own]),
        "resume and eval": ([resume], fit, [of_own]),
        "eval and eval": ([fit[0]], [fit[1]], [of_own]),
        "eval and scores": ([fit[0]], [["fid", f"{own}:gmm", images, *FID]] * 2, [of_own]),
        "statistics": ([stats], [stats], [["fid", images, f"{out}.npz", *FID]]),
        "scores and a cache that goes": ([score] * 3, gone, [score]),
        "data": ([prepare], [prepare], [prepare]),
        "latents": ([encode], [encode], [["decode", own, f"{out}.npz", "--out", after]]),
        "images": ([decode], [["sample", own, "--num", "9", "--out", out]], [["fid", out, images, *FID]]),
        "pictures": ([["panels", own, "--out", out]], [["panels", own, "--out", out]], [["report", own]]),
        "exports": ([export], [export], [["decode", out, latents, "--out", after]]),
        "new files": (made, made, [["recipes", "validate", f"{out}.yaml"]]),
    }  # fmt: skip


def together(one: Callable[[], None], other: Callable[[], None], delay: float) -> None:
    def later() -> None:
        time.sleep(abs(delay))
        (other if delay > 0 else one)()

    thread = threading.Thread(target=later)
    thread.start()
    (one if delay > 0 else other)()
    thread.join()


def assail(attack, finished: Path, sound: Path, num: int, seed: int) -> None:
    rng, folder = random.Random(seed), attack.root / "case"
    names = rng.sample(names := list(races(finished, sound, folder)), len(names))
    with closing(type(attack)(attack.root)) as rival:
        for k in range(num):
            name, delay = names[k % len(names)], rng.choice([-1, 1]) * rng.random() ** 3 / 2  # s, often hardly any
            where = f"{name}, {delay:+.3f} s"
            for copied in (finished, sound / "images"):
                shutil.copytree(copied, folder / copied.name)
            one, other, after = races(finished, sound, folder)[name]
            answers: list[dict] = []
            together(
                lambda: answers.extend(attack.ask([command]) for command in one),  # noqa: B023
                lambda: answers.extend(rival.ask([command]) for command in other),  # noqa: B023
                delay,
            )
            for answer in answers:
                attack.count("of two", where, answer["outcome"], answer["text"])
            last = attack.ask(after)
            attack.count("then", where, "accepted" if last["outcome"] == "accepted" else "fault", last["text"])
            shutil.rmtree(folder)
    assert not attack.told(), f"{attack.report()}\n{attack.told()}"


def test_two_at_once(attack, finished, sound):
    assail(attack, finished, sound, 9, 0)


@pytest.mark.long
def test_hundreds_of_two_at_once(attack, finished, sound):
    assail(attack, finished, sound, 360, 1)
