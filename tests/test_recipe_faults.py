"""Whatever a recipe or an edit holds ends in a recipe, or in short sentences that name place and remedy."""

import re
import shlex
import time

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from genzoo.errors import UserError, clean, quoted, shortened
from genzoo.recipe import read
from genzoo.recipe_file import dump, load

ESCAPES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


def refusal(folder, text, *words) -> str:
    """The message, or an empty string; a message is plain and short."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        read(path, words)
    except UserError as error:
        message = str(error)
        assert message and not ESCAPES.search(message), message
        assert len(message) < 25 * 2100
        return message.replace(str(path), "mine.yaml")
    return ""


@pytest.mark.parametrize(
    ("value", "made", "word"),
    [
        ("2024", "a number of 2024", '"2024"'),
        ("1e3", "a number of 1e3", '"1e3"'),
        ("[1]", "a list of [1]", '"[1]"'),
        ("{a: b}", "a mapping of {a: b}", '"{a: b}"'),
        ("~", "nothing of ~", '"~"'),
        ("true", "true or false of true", '"true"'),
    ],
)
def test_a_name_that_yaml_takes_for_something_else(folder, value, made, word):
    said = f"YAML makes {made}: as a word it is written "
    assert "mine.yaml:2: name: Input should be a valid string" in (
        message := refusal(folder, f"seed: 1\nname: {value}\n")
    )
    assert message.endswith(said + word)
    message = refusal(folder, "name: mine\n", f"name={value}")
    assert message.startswith(f"command line: name={value}: name: ")
    assert message.endswith(said + shlex.quote(f"name={word}"))
    (edit,) = shlex.split(shlex.quote(f"name={word}"))
    assert "YAML makes" not in refusal(folder, "name: mine\n", edit)  # what is advised works
    assert "YAML makes" not in refusal(folder, f"name: {word}\n")


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("photos #2", "'#2' for a comment"),
        ("#2", "'#2' for a comment"),
        ("[a, b] # c", "'# c' for a comment"),
        ("&a b", "'&a' for an anchor"),
        ("!x y", "the tag !x is not for recipes"),
        ("!!str y", "'!!str' for a tag"),
        ("--- x", "'---' for the start of a document"),
        ("*a", "undefined alias 'a'"),
        ("a: b: c", "mapping values are not allowed"),
        ("@x", "cannot start any token"),
        ("%x", "not valid YAML"),
    ],
)
def test_an_edit_that_yaml_would_read_differently_is_refused_with_the_quoting_that_works(folder, value, taken):
    text = "name: mine\ndata: {name: folder, size: 32}\n"
    message = refusal(folder, text, f"data.root={value}")
    assert message.startswith(f"command line: data.root={value}: ") and taken in message
    (advice,) = shlex.split(message.partition("as a word it is written ")[2])
    assert refusal(folder, text, advice) == ""
    assert read(folder / "mine.yaml", [advice]).data.root.name == value


@pytest.mark.parametrize("value", ["photos#2", '"photos #2"', "'a # b'", "[a, 'b # c']", "é漢"])
def test_what_only_looks_like_a_comment_is_taken(folder, value):
    text = "name: mine\ndata: {name: folder, size: 32}\n"
    assert "YAML takes" not in refusal(folder, text, f"data.root={value}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!!bool x", "'x' is no value for !!bool; leave the tag out"),
        ('!!int ""', "'' is no value for !!int; leave the tag out"),
        ('!!float ""', "'' is no value for !!float; leave the tag out"),
        ("!!timestamp x", "the tag !!timestamp is not for recipes; leave it out"),
        ("!!set {a}", "the tag !!set is not for recipes"),
        ("!!binary x", "the tag !!binary is not for recipes"),
        ("!!python/object/apply:os.system [x]", "the tag !!python/object/apply:os.system is not for recipes"),
        (r'"\ud800"', r"'\ud800' holds the character '\ud800', which no setting can; take it out"),
        (r'"\e]0;title\a"', r"holds the character '\x1b', which no setting can; take it out"),
        (r'"\0"', r"holds the character '\x00'"),
        (r'"\U00110000"', "an escape that is no character"),
        ("9" * 5000, "is no value for !!int"),
    ],
)
def test_what_a_scalar_can_hold_is_refused_with_its_line(folder, value, message):
    for key in ("seed", "name", "data"):
        said = refusal(folder, f"train: {{steps: 1}}\n{key}: {value}\n")
        assert said.startswith("mine.yaml:2: not valid YAML: ") and message in said


@pytest.mark.parametrize("value", ["010", "-007", "00", "010.5", "01e3", "0_7"])
def test_a_number_that_begins_with_0_is_refused(folder, value):
    said = f"{value} begins with 0, which other programs read as octal"
    if "_" in value:
        assert "expected int" in refusal(folder, f"name: a\nseed: {value}\n")
        return
    assert refusal(folder, f"name: a\nseed: {value}\n").startswith(f"mine.yaml:2: not valid YAML: {said}")
    message = refusal(folder, "name: a\n", f"seed={value}")
    assert said in message and message.endswith(shlex.quote(f'seed="{value}"'))
    assert not refusal(folder, f'name: "{value.replace("-", "a")}"\nseed: 0\ntrain: {{ema: 0.5}}\n')


@pytest.mark.parametrize("name", ["folder", "webdataset", "npz", "mnist"])
def test_a_path_with_a_line_break_is_refused_on_one_line(folder, name):
    message = refusal(folder, f'name: a\ndata: {{name: {name}, root: "x\\ngenzoo: done"}}\n')
    assert (message or name == "webdataset") and "\n" not in message


def test_a_recipe_of_nothing_but_a_name_says_what_it_is(folder, caplog):
    caplog.set_level("INFO")
    assert not refusal(folder, "name: a\n")
    assert (
        "names neither data nor a model: the defaults are taken, data digits and a model of resnet and" in caplog.text
    )
    caplog.clear()
    assert not refusal(folder, "name: a\n", "data=digits") and "names neither" not in caplog.text


def test_many_mistakes_are_counted_and_quickly(folder):
    begun = time.process_time()  # the square of 9,000 would take minutes of it
    message = refusal(folder, "name: a\n" + "".join(f"x{k}: 1\n" for k in range(9000)))
    assert len(message.splitlines()) == 21 and message.endswith("mine.yaml: and 8,980 mistakes more")
    message = refusal(folder, "name: a\nsamplers: [" + ", ".join(f"x{k}" for k in range(9000)) + "]")
    assert message.endswith("mine.yaml: and 8,980 mistakes more")
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "key", ["name", "data", "model.encoder", "train.optimizer.name", "samplers.0", "data.root", "nokey"]
)
def test_long_values_are_not_quoted_whole(folder, key):
    message = refusal(folder, "name: a\n", f"{key}={'k' * 100_000}")
    assert len(message) < 5000 and (message or key in ("data.root", "train.optimizer.name"))


def test_what_a_terminal_acts_on_reaches_none(folder, call):
    """A direction mark is a letter of some scripts, so recipes may hold it; what is shown of it is an escape."""
    path = folder / "marks.yaml"
    path.write_text('name: a\ndata: {name: folder, size: 32, root: "\u202e\u2066x"}\n')
    code, out, err = call("show", path)
    assert code == 0 and not ESCAPES.search(out.replace("\n", "")) and "\\u202E" in out
    assert yaml.safe_load(out)["data"]["root"].endswith("\u202e\u2066x")
    code, _, err = call("run", path)
    assert code == 2 and not ESCAPES.search(err.replace("\n", "")) and "\\u202e" in err


ODD = st.sampled_from(
    ["!!bool", "!!int", "!!float", "!!null", "!!timestamp", "!!set", "!!merge", "!!str", "!x", "&a", "*a", "<<"]
)
scalars = st.text(st.characters(codec=None), max_size=12) | st.from_regex(
    r'"\\[xuU0-9abefnrtv"\\_NLP /]{1,9}"', fullmatch=True
)
KEYS = ["name", "seed", "data", "plugins", "objective", "train", "samplers", "evaluation", "model", "report", "other"]


@given(key=st.sampled_from(KEYS), tag=st.just("") | ODD, value=scalars)
@example("seed", "!!bool", "x")
@example("plugins", "", '["\\ud800"]')
@example("seed", "", "9" * 5000)
@example("train", "", "{optimizer: {lr: " + "9" * 4000 + "}}")
@example("plugins", "", "[" + "x" * 5000 + "]")
def test_any_scalar_under_any_key_ends_in_a_sentence(folder, key, tag, value):
    message = refusal(folder, f"{key}: {tag} {value}\n" + ("name: a\n" if key != "name" else ""))
    assert not message or message.startswith("mine.yaml:")


@given(key=st.sampled_from(KEYS), value=st.text(st.characters(codec=None), max_size=20))
@example("name", '"\\ud800"')
@example("samplers.0", "x # y")
def test_any_edit_ends_in_a_sentence(folder, key, value):
    message = refusal(folder, "name: a\n", f"{key}={value}")
    assert not message or message.startswith(("command line: ", "mine.yaml:"))


@given(st.text(st.characters(codec=None), max_size=300))
def test_clean_text_is_plain_and_what_is_shortened_short(text):
    assert not ESCAPES.search(clean(text))
    assert len(shortened(text, 60)) < 110 and (len(text) > 60 or shortened(text, 60) == text)
    assert not ESCAPES.search(quoted(text)) and "\n" not in quoted(text)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_what_is_dumped_is_plain_and_reads_back(folder, text):
    written = dump({"name": text})
    assert not ESCAPES.search(written.replace("\n", ""))
    (folder / "dumped.yaml").write_text(written)
    if clean(text) == text or text.isprintable():
        assert load(folder / "dumped.yaml")[0] == {"name": text}
