"""Recipes, edits and run folders by a hostile stranger, from a seed; their plugin leaves a mark when it is executed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from genzoo.recipe import read

Rng = np.random.Generator
Commands = list[list[str]]
EVIL = "import pathlib\npathlib.Path({!r}).write_text('executed')\nraise SystemExit\n"
WORDS = [
    "null", "~", "true", "-1", "0", "1", "1e3", "1e400", ".inf", "9" * 30, "9" * 5000, "a", "", "a: b", "[1]", "{a: b}",
    "[[[[1]]]]", "resnet", "gmm", "acme/x", "../../x", "/dev/zero", "evil.py", "x" * 100_000, "photos #2", "&a b", "*a",
    "!!bool x", '!!int ""', "!!timestamp x", "!!python/object/apply:os.system [id]", '"\\ud800"', '"\\e]0;x\\a"',
    '"\\U80000000"', "\u202e\u2066", "\x1b]0;x\x07", "\ud800", "%x", "@x", "`x`", "- -", "? a", "|", ">-\n  a", "'", '"',
    "reference://x::data:,{}", "<<", "2024-01-01", "0x10", "010", "1:30", "no", "\t", "\u2028", "\ufeff",
]  # fmt: skip


def text_of(rng: Rng) -> str:
    return "".join(
        rng.choice(list("{}[]:,-&*!|>%@`'\"#? \n\tabc019~\\\x00\u202eé")) for _ in range(rng.integers(1, 60))
    )


def places(tree: object, place: tuple = ()) -> Iterator[tuple]:
    yield place
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, (*place, key))


def recipes(rng: Rng, folder: Path, _: Path) -> Iterator[tuple[str, Commands]]:
    """Every place of a whole recipe with every odd word, as a file and as an edit; then mutilated files."""
    whole = yaml.safe_load(read("svae_digits").to_yaml())
    known = [place for place in places(whole) if place]
    while True:
        folder.mkdir()
        (folder / "evil.py").write_text(EVIL.format(str(folder.parent / "EXECUTED")))
        file, words = folder / "recipe.yaml", []
        text = yaml.safe_dump({**whole, "plugins": ["evil.py"]}, sort_keys=False)
        place, word = known[rng.integers(len(known))], str(rng.choice(WORDS)) if rng.random() < 0.8 else text_of(rng)
        match rng.integers(3):
            case 0:
                words = [f"{'.'.join(map(str, place))}={word}"]
            case 1:
                lines = text.splitlines()
                k = rng.integers(len(lines))
                lines[k] = lines[k].partition(":")[0] + f": {word}"
                text = "\n".join(lines)
            case 2:
                k = rng.integers(len(text))
                text = text[:k] + word + text[k + rng.integers(20) :]
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        command = [["show"], ["recipes", "validate"]][int(rng.random() < 0.2)]
        yield f"{place} {word[:40]!r}", [[*command, str(file), *(w for w in words if "\0" not in w)]]


def runs(rng: Rng, folder: Path, finished: Path) -> Iterator[tuple[str, Commands]]:
    """A finished run with one or two of its files damaged, and every command that reads one."""
    names = sorted(str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file())
    while True:
        shutil.copytree(finished, folder)
        (folder / "evil.py").write_text(EVIL.format(str(folder.parent / "EXECUTED")))
        damaged = [str(rng.choice(names)) for _ in range(rng.integers(1, 3))]
        for name in damaged:
            damage(rng, folder / name)
        if rng.random() < 0.3 and (folder / "recipe.yaml").is_file():
            with (folder / "recipe.yaml").open("a", errors="surrogateescape") as file:
                file.write("plugins: [evil.py]\n")
        command = [
            ["sample", str(folder), "--num", "1", "--out", str(folder / "o")],
            ["eval", str(folder)],
            ["compare", str(folder), str(finished)],
            ["recipes", "diff", str(folder), str(finished)],
            ["show", str(folder / "recipe.yaml")],
            ["fid", f"{folder}:gmm", str(finished), "--metric", "fd", "--features", "pixels", "--num", "2"],
            ["run", str(finished / "recipe.yaml"), "train.steps=3", "--out", str(folder), "--resume"],
        ][rng.integers(7)]
        yield f"{damaged} {command[0]}", [command]


def damage(rng: Rng, path: Path) -> None:
    if not path.is_file():
        return
    content = bytearray(path.read_bytes())
    match rng.integers(6):
        case 0:
            path.unlink()
        case 1:
            path.unlink()
            path.mkdir()
        case 2:
            path.write_bytes(content[: rng.integers(len(content) + 1)])
        case 3:
            for k in rng.integers(0, max(1, len(content)), rng.integers(1, 9)):
                content[k : k + 1] = bytes(rng.integers(0, 256, 1, np.uint8))
            path.write_bytes(content)
        case 4:
            path.write_text(
                str(rng.choice(["null", "[]", "{}", "[1, 2]", '"x"', "1e999", "{" * 5000, '{"step": null}']))
            )
        case 5:
            path.unlink()
            path.symlink_to(str(rng.choice(["/dev/zero", "/etc/passwd", "nowhere", "."])))


ATTACKS = {"recipes": recipes, "runs": runs}


def assail(attack, kind: str, num: int, finished: Path, seed: int = 0) -> None:
    rng, folder = np.random.default_rng([seed, *kind.encode()]), attack.root / "case"
    for _, (name, commands) in zip(range(num), ATTACKS[kind](rng, folder, finished), strict=False):
        attack.case(kind, name, folder, commands)


def test_hostile_recipes_and_runs(attack, finished):
    for kind, num in {"recipes": 150, "runs": 35}.items():
        assail(attack, kind, num, finished)
    assert not attack.told(), f"{attack.report()}\n{attack.told()}"


@pytest.mark.long
@pytest.mark.parametrize("kind", ATTACKS)
def test_thousands_of_hostile_recipes_and_runs(attack, kind, finished):
    for seed in range(1, 6):
        assail(attack, kind, 1000 if kind == "recipes" else 150, finished, seed)
    assert not attack.told(), f"{attack.report()}\n{attack.told()}"
