"""`KEY=VALUE` edits: words of the command line that change the tree of a recipe before it is checked."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from genzoo.errors import UserError, quoted, shortened
from genzoo.recipe_file import COMMAND_LINE, Origin, Place, YAMLLoader, parse_yaml

Dropped = tuple[Place, Any, Any, dict[str, Any]]  # where another part was named, its name, the one before, its options
TAKEN = {
    yaml.AnchorToken: "an anchor",
    yaml.AliasToken: "an alias",
    yaml.TagToken: "a tag",
    yaml.DirectiveToken: "a directive",
    yaml.DocumentStartToken: "the start of a document",
    yaml.DocumentEndToken: "the end of a document",
}


def apply(tree: dict, origins: dict[Place, str], words: Sequence[str]) -> list[Dropped]:
    """Make `KEY=VALUE` edits in the tree, and note in `origins` which places came from the command line.

    Returns what gave way where another part was named, for `lost`.
    """
    dropped: list[Dropped] = []
    edits = sorted((_split(word) for word in words), key=_outermost_first)
    keys = {key for key, _, _ in edits}
    for key, value, word in edits:
        dropped += _edit(tree, key, value, keys)
        for place in [place for place in origins if place[: len(key)] == key]:
            del origins[place]
        origins[key] = Origin(f"{COMMAND_LINE}{shortened(word, 200)}", word.partition("=")[2])
    return dropped


def lost(dropped: Sequence[Dropped], made: dict) -> list[str]:
    """A sentence for each part whose options are other ones, or none, in what took its place. made: the whole tree."""
    said = []
    for place, name, before, options in dropped:
        own = _get(made, place)
        gone = [key for key, value in options.items() if not isinstance(own, dict) or own.get(key) != value]
        if gone:
            place_of_name = ".".join(map(str, (*place, "name")))
            said.append(f"{place_of_name}={name}: options of {before} are dropped: {', '.join(gone)}")
    return said


def _split(word: str) -> tuple[Place, Any, str]:
    key, equals, text = word.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"{quoted(word)} is not KEY=VALUE (such as train.steps=1000 or model.head.decoder.name=conv)")
    try:
        value, _ = parse_yaml(text, "")
        fault = _taken_by_yaml(text)
    except yaml.YAMLError as error:
        fault = f"the value is not valid YAML: {getattr(error, 'problem', None) or getattr(error, 'reason', error)}"
    except RecursionError:
        fault = "the value is nested too deeply"
    if fault:
        as_word = shlex.quote(f"{key}={json.dumps(shortened(text, 200), ensure_ascii=False)}")
        raise UserError(f"{COMMAND_LINE}{shortened(word, 200)}: {fault}; as a word it is written {as_word}")
    return tuple(int(step) if step.isdecimal() and len(step) < 10 else step for step in key.split(".")), value, word


def _taken_by_yaml(text: str) -> str:
    """What YAML would take for something else than a part of the value, such as ` #2` for a comment."""
    end = 0
    for token in yaml.scan(text, Loader=YAMLLoader):
        if "#" in (between := text[end : token.start_mark.index]):
            return f"YAML takes {quoted(between.strip())} for a comment"
        if type(token) in TAKEN:
            return f"YAML takes {quoted(text[token.start_mark.index : token.end_mark.index])} for {TAKEN[type(token)]}"
        end = max(end, token.end_mark.index)
    return ""


def _outermost_first(edit: tuple[Place, Any, str]) -> tuple[int, bool]:
    """Whole branches before what is in them, parts before their options, whatever the order on the command line."""
    return (len(edit[0]), edit[0][-1] != "name")


def _edit(tree: dict, key: Place, value: Any, keys: set[Place]) -> list[Dropped]:
    """Set one place of the tree. Naming another part starts from that part's defaults. keys: of all edits."""
    dropped: list[Dropped] = []
    if key[-1] == "name" and len(key) > 1 and key[0] != "train":
        old = _get(tree, key[:-1])
        if isinstance(old, dict) and old.get("name") != value:
            given = {edit[len(key) - 1] for edit in keys if len(edit) >= len(key) and edit[: len(key) - 1] == key[:-1]}
            options = {option: old[option] for option in old if option not in {"name", *given}}
            dropped = [(key[:-1], value, old.get("name"), options)]
            old.clear()
    node: Any = tree
    for step, following in zip(key, [*key[1:], None], strict=True):
        if isinstance(node, list):
            if not isinstance(step, int) or step > len(node):
                raise UserError(f"{COMMAND_LINE}{'.'.join(map(str, key))}: no entry {step} in a list of {len(node)}")
            if step == len(node):
                node.append(None)
        elif isinstance(step, int):
            raise UserError(f"{COMMAND_LINE}{'.'.join(map(str, key))}: {step} is a list index, but there is no list")
        if following is None:
            old = node[step] if isinstance(node, list) else node.get(step)
            node[step] = _with_options(value, old)
            break
        child = node[step] if isinstance(node, list) else node.get(step)
        if isinstance(child, str):
            child = {"name": child}  # `encoder: resnet` is short for `encoder: {name: resnet}`
        if isinstance(child, bool | int | float):
            raise UserError(f"{COMMAND_LINE}{'.'.join(map(str, key))}: {step} is {child}, which has no options")
        if not isinstance(child, dict | list):
            child = [] if isinstance(following, int) else {}
        node[step] = child
        node = child
    return dropped


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
