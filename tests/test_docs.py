"""What the pages say is so: their commands parse, their settings are valid, their Python runs, their tables are current."""

import ast
import importlib.util
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

import genzoo
from genzoo.cli import cli
from genzoo.config import config_of, parse, part
from genzoo.edits import apply
from genzoo.preparation import build_parts
from genzoo.recipe import read
from genzoo.recipe_file import shipped
from genzoo.registry import DATASETS, DECODERS, KINDS
from genzoo.run import run
from genzoo.study.cells import expand
from genzoo.study.study import read as read_study

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|[\s(])genzoo +(-?-?[a-z][^\n]*)")
END = re.compile(r" +(?:#|>|&&|\|\|?).*| *\)?$")  # of a command: a comment, a redirection, another command
LOCAL = ("digits", "faces", "mnist", "celeba")


def blocks(page: Path, language: str) -> list[str]:
    return [found[3] for found in BLOCK.finditer(page.read_text(encoding="utf-8")) if found[2] == language]


def commands(page: Path) -> list[tuple[str, bool]]:
    """Every `genzoo ...` of the page, without the word, and whether it is whole: of a block, not of a sentence."""
    text = page.read_text(encoding="utf-8")
    prose = BLOCK.sub("", text)
    lines = "\n".join([*blocks(page, "sh"), *re.findall(r"^    .*", prose, re.MULTILINE)]).replace("\\\n", " ")
    whole = [(END.sub("", command), True) for command in COMMAND.findall(lines)]
    inline = [(END.sub("", found), False) for found in re.findall(r"`genzoo +(-?-?[a-z][^`\n]*)`", prose)]
    return [*whole, *inline]


COMMANDS = sorted({found for page in PAGES for found in commands(page)})
DECODER = next(block for block in blocks(DOCS / "own_decoder.md", "python") if "@genzoo.DECODERS" in block)


def parsed(words: list[str], whole: bool) -> click.Context | None:
    """The context of the (sub)command that the words call; None where a sentence leaves some of them out."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        if words and words[0] == "--trust-weights":
            words = words[2:]
        if not words and not whole:
            return None
        name, *words = words
        assert name in command.commands, f"no command {name}"
        command = command.commands[name]
    try:
        return command.make_context(command.name, words, parent=context)
    except click.exceptions.Exit:  # --help
        return None
    except click.MissingParameter:
        if whole:
            raise
    except click.BadParameter as error:
        if not isinstance(error.param.type, click.Path):  # a file of the reader's
            raise
    except click.BadOptionUsage as error:
        if whole or isinstance(error, click.NoSuchOption):
            raise
    return None


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The pages' decoder, under the names that they give it."""
    file = tmp_path_factory.mktemp("plugin") / "my_decoder.py"
    file.write_text(DECODER + DECODER.replace('"mine"', '"local"').replace("MyDecoder", "Local"))
    yield str(file)
    DECODERS.forget({"mine", "local"} & DECODERS.entries.keys())


def recipe_of(word: str) -> str | None:
    """The shipped recipe that a command's RECIPE or RUN is, or was made from."""
    name = Path(word).stem if word.endswith(".yaml") else Path(word).name
    return name if name in shipped() else None


@pytest.mark.parametrize(("command", "whole"), COMMANDS)
def test_commands_exist_and_their_settings_are_valid(command, whole, plugin, monkeypatch):
    monkeypatch.chdir(ROOT)
    context = parsed(shlex.split(command), whole)
    if context is None:
        return
    options, name = context.params, context.command.name
    for word in (options.get(key) for key in ("recipe", "what") if options.get(key)):
        assert not word.startswith("recipes/") or Path(word).is_file(), word
    if name == "prepare":
        apply(
            tree := {"name": options["name"]},
            {},
            options["overrides"] if "overrides" in options else options["options"],
        )
        parse(part(DATASETS), tree, command)
    elif name == "check" and (made := options["options"]):
        kind, _, part_name = options["what"].partition("/")
        if part_name in KINDS.get(kind, DECODERS).names():
            apply(tree := {}, {}, made)
            config_of(KINDS[kind], part_name)(**tree)
    elif overrides := options.get("overrides"):
        source = next(str(options[key]) for key in ("recipe", "what", "folder") if options.get(key))
        if recipe := recipe_of(source):
            made = read(recipe, overrides, (plugin,))
            if made.data.name in LOCAL:
                build_parts(made)


def test_there_are_commands_to_look_at():
    assert len(COMMANDS) > 60 and sum("=" in command for command, _ in COMMANDS) > 20


def test_the_decoder_of_the_page_trains_a_split_vae(tmp_path):
    plugin = tmp_path / "my_decoder.py"
    plugin.write_text(DECODER.replace('"mine"', '"test_docs/mine"'))
    words = [
        "model.head.decoder.name=test_docs/mine", "model.encoder.base_dim=2", "train.steps=2", "train.batch_size=8",
        "samplers=[prior]", "evaluation.num_samples=4", "evaluation.num_reference=4",
    ]  # fmt: skip
    metrics = run(read("svae_digits", words, (str(plugin),)), tmp_path / "run")
    assert {entry["part"] for entry in metrics["scores"]} == {"y", "y1", "y2", "mix"}


def test_the_python_of_the_pages_runs(tmp_path, monkeypatch):
    use, make = blocks(DOCS / "trained.md", "python")
    words = ["train.steps=2", "train.batch_size=8", "samplers.1.num_components=2", "evaluation.metrics=[]"]
    assert '["train.steps=500"]' in make
    monkeypatch.chdir(tmp_path)
    exec(make.replace('["train.steps=500"]', str(words)), made := {})
    assert made["metrics"]["name"] == "svae_digits" and made["about"]["sampler_name"] == "gmm"
    assert sum(map(len, made["batches"])) == 100
    exec(use.replace("runs/svae_digits", "runs/short"), made := {})
    assert made["way"].image.shape == (8, *made["x"].shape[1:]) and "sigma" in made["made"].parts


def test_the_call_of_fid_is_one():
    (block,) = blocks(DOCS / "scoring.md", "python")
    (call,) = [
        node
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "genzoo.fid"
    ]
    inspect.signature(genzoo.fid).bind(*call.args, **{word.arg: word.value for word in call.keywords})


def test_the_study_of_the_page_is_one(tmp_path):
    (block,) = blocks(DOCS / "studies.md", "yaml")
    (tmp_path / "mine.yaml").write_text(block)
    assert len(expand(*read_study(tmp_path / "mine.yaml"))) == 12


def test_the_catalogue_is_current():
    spec = importlib.util.spec_from_file_location("catalogue", DOCS / "catalogue.py")
    catalogue = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(catalogue)
    assert {path.stem for path in catalogue.FOLDER.glob("*.md")} == KINDS.keys()
    for kind in KINDS:
        written = (catalogue.FOLDER / f"{kind}.md").read_text(encoding="utf-8")
        assert written == catalogue.page(kind), f"docs/parts/{kind}.md: run python docs/catalogue.py"


def test_every_page_and_picture_has_its_place():
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"[\w/]+\.md", str(site["project"]["nav"])))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert listed == pages
    for page in PAGES:
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), f"{page}: {picture}"
