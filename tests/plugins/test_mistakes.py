"""Mistakes in plugins: each ends in one message that says what is wrong and where, and genzoo works on."""

from __future__ import annotations

import re

import pytest

from genzoo.registry import KINDS

REGISTER = '@genzoo.DECODERS.register("mine")'
INIT = "def __init__(self, config, in_shape, out_shape):"
LAYER = "self.layer = FromFeatures(in_shape, out_shape)"
RETURN = "return self.layer(features)"
FIRST = "import genzoo\n"
CONFIG = 'class Config(Config):\n        dim: int = Field(8, description="nothing")'
WRONG_VALIDATOR = """class Config(Config):
        dim: int = 8

        @model_validator(mode="after")
        def look(self):
            return {}["gone"]"""

# name: (edits of the plugin file, what the message must say)
IN_A_FILE = {
    "syntax error": ([("class Mine(nn.Module):", "class Mine(nn.Module:")], r"mine\.py, line \d+: .*SyntaxError"),
    "missing dependency": (
        [(FIRST, "import not_a_package\n" + FIRST)],
        r"mine\.py, line 1: .*the package 'not_a_package' is not installed",
    ),
    "name that genzoo has not": (
        [("import FromFeatures", "import FromFeature")],
        r"mine\.py, line 3: cannot be loaded: ImportError: cannot import name 'FromFeature'",
    ),
    "fails while it is loaded": ([(FIRST, "1 / 0\n" + FIRST)], r"mine\.py, line 1: .*ZeroDivisionError"),
    "exits while it is loaded": ([(FIRST, "import sys; sys.exit()\n" + FIRST)], r"cannot be loaded: SystemExit"),
    "forgotten register": ([(REGISTER + "\n", "")], r"registers nothing: put e\.g\. `@genzoo\.DECODERS\.register"),
    "register without a name": ([(REGISTER, "@genzoo.DECODERS.register")], r"is no name for a part"),
    "register of a name with spaces": ([('"mine"', '"my decoder"')], r"'my decoder' is no name for a part"),
    "register above a function": (
        [(RETURN, RETURN + "\n\n" + REGISTER + "\ndef other(): pass")],
        r"`register` goes above a class",
    ),
    "a name of genzoo's own": ([('"mine"', '"resnet"')], r"resnet is registered twice: by genzoo and by .*mine\.py"),
    "written for another genzoo": (
        [(FIRST, 'REQUIRES_GENZOO = ">=9"\nimport nothing_of_this_is_run\n' + FIRST)],
        r"mine\.py: it was written for genzoo >=9, and this is genzoo",
    ),
    "versions that cannot be understood": (
        [(FIRST, 'REQUIRES_GENZOO = "new"\n' + FIRST)],
        r"cannot be understood: 'new' \(such as '>=0\.1,<0\.2'\)",
    ),
    "no Config": ([(CONFIG, "pass")], r"the class Mine needs its options as a nested `class Config\(genzoo\.Config\)`"),
    "a Config of pydantic's own": (
        [("class Config(Config)", "class Config(pydantic.BaseModel)"), (FIRST, FIRST + "import pydantic\n")],
        r"nested `class Config\(genzoo\.Config\)` \(.*mine\.py:\d+\)",
    ),
    "an option of an unknown type": (
        [("dim: int", "dim: nn.Module")],
        r"mine\.py, line \d+: .*PydanticSchemaGenerationError",
    ),
    "a wrong default": (
        [("Field(8", 'Field("eight"')],
        r"decoder\.dim: the default of decoders/mine for this option is wrong: .*integer.*mine\.py:\d+",
    ),
    "a validator that fails": (
        [(CONFIG, WRONG_VALIDATOR), ("import Field", "import Field, model_validator")],
        r"the Config of decoders/mine fails: KeyError: 'gone' \(.*mine\.py:\d+\)",
    ),
    "a constructor without the sizes": (
        [(INIT, "def __init__(self, config):"), (LAYER, "pass")],
        r"decoders/mine: its __init__ must take \(config, in_shape, out_shape\): .*'in_shape' \(.*mine\.py:\d+\)",
    ),
    "a constructor that wants more": (
        [(INIT, "def __init__(self, config, in_shape, out_shape, depth):")],
        r"__init__ must take \(config, in_shape, out_shape\): missing a required argument: 'depth'",
    ),
    "forgotten super().__init__()": (
        [("        super().__init__()\n", "")],
        r"decoders/mine cannot be built for in_shape=\(256,\), out_shape=\(1, 32, 32\): AttributeError",
    ),
    "a size it cannot make": (
        [(LAYER, "raise ValueError('images must be 7x7')")],
        r"decoders/mine cannot be built for .*: images must be 7x7$",
    ),
    "another shape than is due": (
        [(RETURN, "return self.layer(features)[..., ::2]")],
        r"the decoder Mine makes \(1, 32, 16\), but its out_shape is \(1, 32, 32\)",
    ),
    "a tuple of images": ([(RETURN, "return self.layer(features), None")], r"the decoder Mine makes a tuple, but"),
    "no forward": ([("def forward", "def backward")], r"decoders/mine fails on 1x32x32 images: NotImplementedError"),
    "an error in forward": (
        [(RETURN, "return self.layers(features)")],
        r"decoders/mine fails on 1x32x32 images: AttributeError: .*'layers'",
    ),
    "in_shape ignored": (
        [(LAYER, "self.layer = FromFeatures((10,), out_shape)")],
        r"decoders/mine fails on 1x32x32 images: RuntimeError",
    ),
}
ENCODER = [
    (REGISTER, '@genzoo.ENCODERS.register("mine")'),
    (INIT, "def __init__(self, config, in_shape):"),
    (LAYER, "self.layer = nn.Flatten()"),
]
AS_AN_ENCODER = {
    "no out_shape": ([], r"encoders/mine: it has no `out_shape`, which the contract genzoo\.parts\.Encoder asks for"),
    "out_shape not a tuple": (
        [("nn.Flatten()", "nn.Flatten(); self.out_shape = 8")],
        r"its `out_shape` is 8, not a tuple of positive sizes without the batch \(a single one: \(n,\)\)",
    ),
    "out_shape not as it is": (
        [("nn.Flatten()", "nn.Flatten(); self.out_shape = (8,)")],
        r"encoders/mine makes shape \(1024,\), but \(8,\) was due",
    ),
    "a decoder's name": ([('ENCODERS.register("mine")', 'HEADS.register("mine")')], r"'mine': it is one of the heads"),
}
# name: (entry points of acme, the name a recipe uses, what the message must say)
INSTALLED = {
    "missing module": ("one = acme_gone.part:One", "one", r"one \(acme 1\.0\) .*package 'acme_gone' is not installed"),
    "missing class": ("one = acme_parts:Two", "one", r"acme_parts has no class 'Two'; correct its entry point"),
    "not a class": ("one = acme_parts:NAME", "one", r"acme_parts has no class 'NAME'"),
    "fails at import": ("one = acme_broken:One", "one", r"cannot be imported from acme_broken:One: RuntimeError: no"),
    "renamed": ("acme/unheard = acme_parts:One", "unheard", r"'unheard'; did you mean 'acme/unheard'\?"),
    "nearly the name": ("one = acme_parts:One", "onne", r"'onne'; did you mean 'one'\?"),
    "not installed": (
        "one = acme_parts:One",
        "other/one",
        r"no installed package registers names of 'other/': install the one that does, or name its file",
    ),
}


def validate(call, *words):
    return call("recipes", "validate", "vae_digits", *words)


def assert_explained(result, pattern, call):
    code, out, err = result
    assert code == 2, (out, err)
    assert not out
    assert err.startswith("genzoo: ")
    assert re.search(pattern, err.strip()), err
    code, out, err = call("list", "decoders")
    assert code == 0 and "decoders/resnet" in out, err
    assert not any(registry.loading for registry in KINDS.values())


@pytest.mark.parametrize("mistake", IN_A_FILE)
def test_in_a_file(mistake, edited, call):
    edits, pattern = IN_A_FILE[mistake]
    result = validate(call, "model.head.decoder.name=mine", "--plugin", edited(*edits))
    assert_explained(result, pattern, call)


@pytest.mark.parametrize("mistake", AS_AN_ENCODER)
def test_as_an_encoder(mistake, edited, call):
    edits, pattern = AS_AN_ENCODER[mistake]
    result = validate(call, "model.encoder.name=mine", "--plugin", edited(*ENCODER, *edits))
    assert_explained(result, pattern, call)


@pytest.mark.parametrize("mistake", INSTALLED)
def test_installed(mistake, install, call):
    entry, name, pattern = INSTALLED[mistake]
    site = install("acme", f"[genzoo.decoders]\n{entry}\n")
    (site / "acme_parts.py").write_text("NAME = 'one'\n")
    (site / "acme_broken.py").write_text("raise RuntimeError('no\\nway')\n")
    assert_explained(validate(call, f"model.head.decoder.name={name}"), pattern, call)


def test_two_packages_claim_a_name(install, call):
    install("acme", "[genzoo.decoders]\none = acme:One\n")
    install("other", "[genzoo.decoders]\none = other:One\n", version="2.0")
    pattern = r"one is claimed by (acme 1\.0 and by other 2\.0|other 2\.0 and by acme 1\.0); uninstall or rename one"
    assert_explained(validate(call, "model.head.decoder.name=one"), pattern, call)


def test_package_for_another_genzoo(install, call):
    install("acme", "[genzoo.decoders]\none = acme:One\n", requires="genzoo<0.1")
    pattern = r"one \(acme 1\.0\): it was written for genzoo <0\.1, .*; install a version of acme that suits"
    assert_explained(validate(call, "model.head.decoder.name=one"), pattern, call)


def test_what_an_extra_of_a_package_needs_is_not_what_it_needs(install, call):
    site = install("acme", "[genzoo.decoders]\none = acme_sound:One\n", requires='genzoo>=9; extra == "future"')
    (site / "acme_sound.py").write_text("from genzoo.decoders.mlp import MLPDecoder as One\n")
    code, _, err = validate(call, "model.head.decoder.name=one")
    assert code == 0, err


def test_two_files_claim_a_name(edited, call):
    other = edited(("One dense layer.", "Another."), name="b.py")  # the same bytes are the same plugin
    words = ("--plugin", edited(name="a.py"), "--plugin", other)
    assert_explained(validate(call, *words), r"mine is registered twice: by .*a\.py and by .*b\.py; rename one", call)


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("gone.py", None, r"gone\.py: no such file; put it back, or correct"),
        ("mine.txt", "hello", r"mine\.txt: not a Python file \(its name must end in \.py\)"),
        ("folder", None, r"folder: no such file \(a folder needs an __init__\.py\)"),
    ],
)
def test_not_a_plugin(name, text, pattern, call, tmp_path):
    path = tmp_path / name
    if text:
        path.write_text(text)
    elif not path.suffix:
        path.mkdir()
    assert_explained(validate(call, "--plugin", path), pattern, call)


def test_a_file_that_needs_its_neighbour(edited, call, tmp_path):
    (tmp_path / "neighbour.py").write_text("")
    path = edited(("import genzoo\n", "import genzoo\nimport neighbour\n"))
    pattern = r"'neighbour' is not installed .*neighbour\.py is beside it: name the folder as the plugin and use `from "
    assert_explained(validate(call, "--plugin", path), pattern, call)


def test_an_option_that_the_part_has_not(edited, call):
    words = ("model.head.decoder.name=mine", "model.head.decoder.dims=3", "--plugin", edited())
    assert_explained(validate(call, *words), r"decoder\.dims: unknown option; did you mean 'dim'\?", call)


def test_a_failed_file_leaves_nothing_registered(edited, call):
    path = edited(("        return self.layer(features)\n", "        return self.layer(features)\n\n\n1 / 0\n"))
    validate(call, "--plugin", path)
    assert "mine" not in KINDS["decoders"].entries


def test_debug_shows_where(edited, capsys, monkeypatch):
    import sys

    from genzoo.cli import main

    monkeypatch.setattr(
        sys, "argv", ["genzoo", "--debug", "list", "--plugin", str(edited(("import genzoo\n", "1/0\n")))]
    )
    with pytest.raises(SystemExit) as end:
        main()
    err = capsys.readouterr().err
    assert end.value.code == 2 and "1/0" in err and "ZeroDivisionError: division by zero\n\n" in err
