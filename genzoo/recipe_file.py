"""Recipe files: where they are, YAML that remembers its lines, and faults told by them. Imports no torch."""

import json
import os
import re
import shlex
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from genzoo.errors import UserError, clean, quoted, shortened, suggestion
from genzoo.files import refuse_device

Place = tuple[Any, ...]  # a place in the tree: keys and list indices from the root
if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MOST = 20  # mistakes that are told one by one
COMMAND_LINE = "command line: "
OCTAL = re.compile(r"[-+]?0[0-9_]")
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")}


def shipped() -> dict[str, Path]:
    """Recipes that come with genzoo, by name."""
    package = Path(__file__).parent
    folder = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(source: str | Path) -> Path:
    """The file of a recipe given by path or by shipped name."""
    path = Path(source)
    if os.path.isfile(path):  # which a name that is too long does not stop, as it does Path.is_file
        return path
    known = shipped()
    if str(source) in known:
        return known[str(source)]
    if os.path.isdir(path):
        raise UserError(f"{source} is a folder; name a recipe file (a run's is {path / 'recipe.yaml'})")
    names = ", ".join(known) or "none"
    raise UserError(f"no recipe file '{source}'{suggestion(path.stem, known)} (shipped, found by name: {names})")


# --- YAML ------------------------------------------------------------------------------------------------------------


class YAMLLoader(yaml.SafeLoader):
    """YAML 1.2's scalars: `off` and `no` are words, 1e-4 is a number, 010 is not octal."""


YAMLLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false|True|False|TRUE|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    YAMLLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that YAML 1.1 (other programs) or 1.2 (the loader) would take for something else."""


_Dumper.yaml_implicit_resolvers = {
    first: _Dumper.yaml_implicit_resolvers.get(first, []) + YAMLLoader.yaml_implicit_resolvers.get(first, [])
    for first in {*_Dumper.yaml_implicit_resolvers, *YAMLLoader.yaml_implicit_resolvers}
}


def dump(tree: dict) -> str:
    """YAML that `load` reads back as it was; what a terminal would act on is escaped."""
    text = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text if clean(text) == text else yaml.dump(tree, Dumper=_Dumper, sort_keys=False)


class Origin(str):
    """`file:line` of a place in the tree, or the word of the command line; `written`: as its value stands there."""

    written = ""

    def __new__(cls, place: str, written: str = ""):
        made = super().__new__(cls, place)
        made.written = written
        return made


QUOTES = "a value with ': ' or ' #' in it, or that begins with one of []{}&*!|>%@`, goes in quotes"


def load(path: Path, what: str = "a recipe is a mapping of name, data, model, ...") -> tuple[dict, dict[Place, str]]:
    """The tree of a file, and "file:line" of every place in it. what: the file should be."""
    try:
        refuse_device(path)
        tree, origins = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except RecursionError as error:
        raise UserError(f"{path}: {error}; {what}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: {what}")
    return tree, origins


def explain_all(error: "ValidationError", origins: dict[Place, str], path: Path, whole: str = "the recipe") -> str:
    """A line for each of the first mistakes that pydantic found, and how many more there are."""
    lines = error.errors(include_url=False)
    said = [explain(line, origins, path, whole) for line in lines[:MOST]]
    return "\n".join([*said, *([f"{path}: and {len(lines) - MOST:,} mistakes more"] if lines[MOST:] else [])])


def explain(error: "ErrorDetails", origins: dict[Place, str], path: Path, whole: str = "the recipe") -> str:
    """One line of a pydantic error: where it stands, which key, what is wrong. whole: what the root is called."""
    place: Place = tuple(error["loc"])
    # The place itself, else what was written below it (an edit of an unknown key), else what it is in.
    below = [key for key in origins if place and key[: len(place)] == place]
    around = [place[:n] for n in range(len(place) - 1, -1, -1)]
    origin = next((origins[key] for key in [place, *below, *around] if key in origins), str(path))
    message = error["msg"].removeprefix("Value error, ")
    given, kind = error.get("input"), error["type"]
    if isinstance(given, str | int | float | bool) and kind not in ("genzoo", "value_error", "part"):
        message += f" (given: {quoted(given)})"
    if kind in ("string_type", "path_type") or (kind == "part" and not isinstance(given, list | dict)):
        message += _as_a_word(given, origins.get(place, ""))
    return f"{origin}: {shortened('.'.join(map(str, place)), 300) or whole}: {message}"


def _as_a_word(given: Any, origin: str) -> str:
    """What YAML has made of a word that was written without quotes, and how to write it."""
    written = shortened(getattr(origin, "written", ""), 100)
    if isinstance(given, str) or not written:
        return ""
    made = {bool: "true or false", list: "a list", dict: "a mapping", type(None): "nothing"}.get(
        type(given), "a number"
    )
    word = json.dumps(written, ensure_ascii=False)
    if origin.startswith(COMMAND_LINE):
        word = shlex.quote(f"{origin.removeprefix(COMMAND_LINE).partition('=')[0]}={word}")
    return f"; YAML makes {made} of {written}: as a word it is written {word}"


def parse(text: str, place: str) -> tuple[Any, dict[Place, str]]:
    """What YAML text holds, and where each value stands; UserError names place, line and remedy."""
    try:
        return parse_yaml(text, place)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(
            f"{place}:{line}: not valid YAML: {error.reason} (#x{error.character:04x}); take it out"
        ) from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        where = f"{place}:{mark.line + 1}" if mark else place
        advice = "" if type(error) is yaml.MarkedYAMLError else f" ({QUOTES})"  # which are this module's own
        raise UserError(f"{where}: not valid YAML: {problem}{advice}") from None


def parse_yaml(text: str, place_of_text: str) -> tuple[Any, dict[Place, str]]:
    loader = YAMLLoader(text)
    origins: dict[Place, str] = {}

    def note(place: Place, node: yaml.Node, line: int) -> None:
        length = 200 if isinstance(node, yaml.ScalarNode) else 101
        written = text[node.start_mark.index : min(node.end_mark.index, node.start_mark.index + length)].strip()
        origins[place] = Origin(f"{place_of_text}:{line}", written)

    def value(node: yaml.Node, place: Place) -> Any:
        if place not in origins:
            note(place, node, node.start_mark.line + 1)
        if len(place) > 20 or len(origins) > 10_000:  # also stops aliases that contain themselves
            raise _fault(node, "nested too deeply, or too long")
        if isinstance(node, yaml.ScalarNode):
            return scalar(node)
        if node.tag not in TAGS:
            raise _fault(node, f"the tag {_tag_of(node)} is not for recipes; leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [value(child, (*place, i)) for i, child in enumerate(node.value)]
        tree: dict[str, Any] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _fault(key_node, "a key must be a word")
            key = _plain(key_node, str(key_node.value))
            if key in tree:
                raise _fault(key_node, f"{quoted(key)} is given twice")
            note((*place, key), child, key_node.start_mark.line + 1)
            tree[key] = value(child, (*place, key))
        return tree

    def scalar(node: yaml.ScalarNode) -> Any:
        if node.tag not in TAGS:
            raise _fault(node, f"the tag {_tag_of(node)} is not for recipes; leave it out")
        try:
            made = loader.construct_object(node)
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, yaml.YAMLError):
            raise _fault(node, f"{quoted(node.value)} is no value for {_tag_of(node)}; leave the tag out") from None
        if isinstance(made, int | float) and node.style is None and OCTAL.match(node.value):
            raise _fault(node, f"{node.value} begins with 0, which other programs read as octal; leave the 0 out")
        return _plain(node, made) if isinstance(made, str) else made

    try:
        node = loader.get_single_node()
        return (None if node is None else value(node, ())), origins
    except (
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:  # of the scanner, such as "\\U00110000"
        fault = f"an escape that is no character ({error}); correct it, or take it out"
        raise yaml.MarkedYAMLError(problem=fault, problem_mark=loader.get_mark()) from None
    finally:
        loader.dispose()


def _plain(node: yaml.Node, text: str) -> str:
    """Text that files, terminals and names can hold: no lone surrogates, of control characters tab and newline."""
    for one in text:
        if "\ud800" <= one <= "\udfff" or (one not in "\t\n" and unicodedata.category(one) == "Cc"):
            raise _fault(node, f"{quoted(text)} holds the character {quoted(one)}, which no setting can; take it out")
    return text


def _fault(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _tag_of(node: yaml.Node) -> str:
    return shortened(clean(node.tag.replace("tag:yaml.org,2002:", "!!")), 60)
