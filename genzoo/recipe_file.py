"""Recipe files: where they are, YAML that remembers its lines, and `KEY=VALUE` edits. Imports no torch."""

import logging
import re
from pathlib import Path
from typing import Any

import yaml

from genzoo.errors import UserError, nearest

log = logging.getLogger("genzoo")
Place = tuple[Any, ...]  # a place in the tree: keys and list indices from the root


def shipped() -> dict[str, Path]:
    """Recipes that come with genzoo, by name."""
    package = Path(__file__).parent
    folder = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(source: str | Path) -> Path:
    """The file of a recipe given by path or by shipped name."""
    path = Path(source)
    if path.is_file():
        return path
    known = shipped()
    if str(source) in known:
        return known[str(source)]
    if path.is_dir():
        raise UserError(f"{source} is a folder; name a recipe file (a run's is {path / 'recipe.yaml'})")
    raise UserError(
        f"no recipe file '{source}'{nearest(path.stem, known)} (shipped, found by name: {', '.join(known) or 'none'})"
    )


# --- YAML ------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `off` and `no` are words, 1e-4 is a number, 010 is not octal."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false|True|False|TRUE|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that YAML 1.1 (other programs) or 1.2 (the loader) would take for something else."""


_Dumper.yaml_implicit_resolvers = {
    first: _Dumper.yaml_implicit_resolvers.get(first, []) + _Loader.yaml_implicit_resolvers.get(first, [])
    for first in {*_Dumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump(tree: dict) -> str:
    """YAML that `load` reads back as it was."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load(path: Path, what: str = "a recipe is a mapping of name, data, model, ...") -> tuple[dict, dict[Place, str]]:
    """The tree of a file, and "file:line" of every place in it. what: the file should be."""
    try:
        text = path.read_text(encoding="utf-8")
        tree, lines = _parse(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path}: {error}; {what}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: {what}")
    return tree, {place: f"{path}:{line}" for place, line in lines.items()}


def explain(error: dict, origins: dict[Place, str], path: Path, whole: str = "the recipe") -> str:
    """One line of a pydantic error: where it stands, which key, what is wrong. whole: what the root is called."""
    place: Place = tuple(error["loc"])
    # The place itself, else what was written below it (an edit of an unknown key), else what it is in.
    below = [key for key in origins if place and key[: len(place)] == place]
    around = [place[:n] for n in range(len(place) - 1, -1, -1)]
    origin = next((origins[key] for key in [place, *below, *around] if key in origins), str(path))
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    if isinstance(given, str | int | float | bool) and error["type"] not in ("genzoo", "value_error"):
        message += f" (given: {given!r})"
    return f"{origin}: {'.'.join(map(str, place)) or whole}: {message}"


def _parse(text: str) -> tuple[Any, dict[Place, int]]:
    loader = _Loader(text)
    lines: dict[Place, int] = {}

    def value(node: yaml.Node, place: Place) -> Any:
        lines.setdefault(place, node.start_mark.line + 1)
        if len(place) > 20 or len(lines) > 10_000:  # also stops aliases that contain themselves
            raise ValueError("nested too deeply, or too long")
        if isinstance(node, yaml.MappingNode):
            tree: dict[str, Any] = {}
            for key_node, child in node.value:
                key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
                if key is None or key in tree:
                    problem = "a key must be a word" if key is None else f"'{key}' is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
                lines[(*place, key)] = key_node.start_mark.line + 1
                tree[key] = value(child, (*place, key))
            return tree
        if isinstance(node, yaml.SequenceNode):
            return [value(child, (*place, i)) for i, child in enumerate(node.value)]
        return loader.construct_object(node)

    try:
        node = loader.get_single_node()
        return (None if node is None else value(node, ())), lines
    finally:
        loader.dispose()


# --- KEY=VALUE -------------------------------------------------------------------------------------------------------


def apply(tree: dict, origins: dict[Place, str], words: list[str] | tuple[str, ...]) -> None:
    """Make `KEY=VALUE` edits in the tree, and note in `origins` which places came from the command line."""
    for key, value, word in sorted((_split(word) for word in words), key=_outermost_first):
        _edit(tree, key, value)
        for place in [place for place in origins if place[: len(key)] == key]:
            del origins[place]
        origins[key] = f"command line: {word}"


def _split(word: str) -> tuple[Place, Any, str]:
    key, equals, text = word.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"'{word}' is not KEY=VALUE (such as train.steps=1000 or model.head.decoder.name=conv)")
    try:
        value, _ = _parse(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"command line: {word}: the value is not valid YAML: {error}") from None
    return tuple(int(step) if step.isdecimal() else step for step in key.split(".")), value, word


def _outermost_first(edit: tuple[Place, Any, str]) -> tuple[int, bool]:
    """Whole branches before what is in them, parts before their options, whatever the order on the command line."""
    return (len(edit[0]), edit[0][-1] != "name")


def _edit(tree: dict, key: Place, value: Any) -> None:
    """Set one place of the tree. Naming another part starts from that part's defaults."""
    if key[-1] == "name" and len(key) > 1 and key[0] != "train":
        old = _get(tree, key[:-1])
        if isinstance(old, dict) and old.get("name") != value:
            dropped = [option for option in old if option != "name"]
            if dropped:
                place = ".".join(map(str, key))
                log.info("%s=%s: options of %s are dropped: %s", place, value, old.get("name"), ", ".join(dropped))
            old.clear()
    node: Any = tree
    for step, following in zip(key, [*key[1:], None], strict=True):
        if isinstance(node, list):
            if not isinstance(step, int) or step > len(node):
                raise UserError(f"command line: {'.'.join(map(str, key))}: no entry {step} in a list of {len(node)}")
            if step == len(node):
                node.append(None)
        elif isinstance(step, int):
            raise UserError(f"command line: {'.'.join(map(str, key))}: {step} is a list index, but there is no list")
        if following is None:
            old = node[step] if isinstance(node, list) else node.get(step)
            node[step] = _with_options(value, old)
            return
        child = node[step] if isinstance(node, list) else node.get(step)
        if isinstance(child, str):
            child = {"name": child}  # `encoder: resnet` is short for `encoder: {name: resnet}`
        if isinstance(child, bool | int | float):
            raise UserError(f"command line: {'.'.join(map(str, key))}: {step} is {child}, which has no options")
        if not isinstance(child, dict | list):
            child = [] if isinstance(following, int) else {}
        node[step] = child
        node = child


def _with_options(value: Any, old: Any) -> Any:
    """In a list, a bare name of a part that was in the old list, once, is that part with its options."""
    if not (isinstance(value, list) and isinstance(old, list)):
        return value
    named = [entry for entry in old if isinstance(entry, dict)]
    found = {one: [entry for entry in named if entry.get("name") == one] for one in value if isinstance(one, str)}
    return [dict(found[one][0]) if isinstance(one, str) and len(found[one]) == 1 else one for one in value]


def _get(tree: Any, key: Place) -> Any:
    for step in key:
        if isinstance(tree, dict):
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree
