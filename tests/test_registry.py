from __future__ import annotations

import pytest

import genzoo.registry
from genzoo.errors import UserError
from genzoo.registry import KINDS, Entry, Registry


@pytest.fixture
def registry():
    registry = Registry("decoders", {"resnet": "decoders.resnet:ResNetDecoder", "gone": "decoders.gone:Gone"})
    registry._builtin |= {
        "acme/fine": Entry("acme/fine", "genzoo.decoders.mlp:MLPDecoder", "acme 1.0"),
        "acme/broken": Entry("acme/broken", "acme_is_not_here.part:Part", "acme 1.0"),
        "both": Entry("both", "a:B", "acme 1.0", clash="other 2.0"),
    }
    return registry


@pytest.mark.parametrize("kind", KINDS)
def test_every_builtin_can_be_imported_and_has_a_config_and_a_docstring(kind):
    from genzoo.config import Config
    from genzoo.plugins import describe

    for name, entry in KINDS[kind].entries.items():
        if entry.owner != "genzoo":  # registered by another test, or by a plugin that is installed here
            continue
        part = KINDS[kind].get(name)
        assert issubclass(part.Config, Config) and part.Config is not Config, name
        assert describe(entry) == part.__doc__.strip().splitlines()[0], name
        for option, field in part.Config.model_fields.items():
            nested = "part" in str(field.metadata) or "BeforeValidator" in str(field.metadata)
            assert option == "name" or nested or field.description, f"{kind}/{name}: {option} has no description"


def test_get_imports_only_what_is_asked_for(registry):
    assert registry.get("acme/fine").__name__ == "MLPDecoder"
    assert registry.names("acme/*") == ["acme/broken", "acme/fine"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnett", "no decoders part is called 'resnett'; did you mean 'resnet'"),
        ("acme/broken", r"acme/broken \(acme 1.0\) cannot be imported .*'acme_is_not_here' is not installed"),
        ("gone", "cannot be imported from genzoo.decoders.gone:Gone"),
        ("both", "claimed by acme 1.0 and by other 2.0"),
    ],
)
def test_using_a_bad_name_says_why(registry, name, message):
    with pytest.raises(UserError, match=message):
        registry.get(name)


def test_register_refuses_a_second_owner_and_lets_a_notebook_cell_run_again(registry):
    def cell():
        class Mine:
            pass

        return Mine

    registry.register("mine")(cell())
    again = cell()
    registry.register("mine")(again)
    assert registry.get("mine") is again
    registry.loading = "one.py"  # in one file, it is a slip
    with pytest.raises(UserError, match=r"decoders/twice is registered twice: by one\.py and by one\.py"):
        for _ in range(2):
            registry.register("twice")(cell())
    registry.loading = ""
    for name in ("mine", "resnet", "acme/fine"):
        with pytest.raises(UserError, match=f"decoders/{name} is registered twice: by"):
            registry.register(name)(type("Other", (), {}))


def test_entry_points_of_installed_packages_are_found(tmp_path, monkeypatch, caplog):
    info = tmp_path / "acme_parts-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-parts\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[genzoo.decoders]\nacme/one = genzoo.decoders.mlp:MLPDecoder\nresnet = acme:Mine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("genzoo.registry.entry_points", genzoo.registry.entry_points.__wrapped__)
    registry = Registry("decoders", {"resnet": "decoders.resnet:ResNetDecoder"})
    assert registry.entries["acme/one"].owner == "acme-parts 1.2"
    assert registry.get("resnet").__name__ == "ResNetDecoder"
    assert "decoders/resnet of acme-parts 1.2 is not used: the name is genzoo's own" in caplog.text
