"""Commands about parts: what is registered, what each takes, which plugins bring them, how to write and check one."""

import inspect
import json
import sys
from pathlib import Path

import click

from genzoo.cli.options import as_json, complete_kind, complete_part, complete_part_or_recipe, plugin_option
from genzoo.errors import UserError, suggestion
from genzoo.registry import KINDS


@click.command("list")
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.argument("pattern", default="*")
@plugin_option
@as_json
def list_parts(kind: str | None, pattern: str, plugins: tuple, as_json: bool) -> None:
    """Registered parts of KIND (or of every kind) that match PATTERN, with the package each comes from."""
    from genzoo.plugin_files import load_file
    from genzoo.plugins import describe

    for plugin in plugins:
        load_file(plugin)
    if kind and "/" in kind:
        kind, _, pattern = kind.partition("/")
    if kind is not None:
        kind = kind_of(kind)
    rows = [
        {"kind": registry.kind, "name": name, "owner": registry.entries[name].owner}
        | {"description": describe(registry.entries[name])}
        for registry in KINDS.values()
        if kind in (None, registry.kind)
        for name in registry.names(pattern)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        names = [name for registry in KINDS.values() if kind in (None, registry.kind) for name in registry.names()]
        raise UserError(f"nothing matches '{pattern}'{f' in {kind}' if kind else ''}{suggestion(pattern, names)}")
    width = max(len(row["kind"]) + len(row["name"]) for row in rows) + 1
    owners = max(len(row["owner"]) for row in rows)
    for row in rows:
        click.echo(f"{row['kind'] + '/' + row['name']:{width}}  {row['owner']:{owners}}  {row['description']}".rstrip())


@click.command()
@click.argument("what", metavar="KIND/NAME | RECIPE", shell_complete=complete_part_or_recipe)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_option
@as_json
def show(what: str, overrides: tuple, plugins: tuple, as_json: bool) -> None:
    """A part's options with types, bounds, defaults and meaning, or a recipe resolved with all its defaults."""
    kind, slash, name = what.partition("/")
    if slash and (kind in KINDS or f"{kind}s" in KINDS):
        from genzoo.config import config_of
        from genzoo.options import options
        from genzoo.plugin_files import load_file

        for plugin in plugins:
            load_file(plugin)
        registry = KINDS[kind_of(kind)]
        rows = options(config_of(registry, name))
        owner, about = registry.entries[name].owner, inspect.getdoc(registry.get(name)) or ""
        if as_json:
            part = {"kind": registry.kind, "name": name, "owner": owner, "description": about, "options": rows}
            click.echo(json.dumps(part, indent=2))
            return
        click.echo(f"{registry.kind}/{name} ({owner})\n\n{about}\n")
        for row in rows:
            default = row["default"] if row["default"] == "required" else f"= {json.dumps(row['default'])}"
            click.echo(f"  {row['option']}: {row['type']} {default}")
            if row["description"]:
                click.echo(f"      {row['description']}")
        return
    from genzoo.recipe import read

    recipe = read(what, overrides, plugins)
    click.echo(json.dumps(recipe.model_dump(mode="json"), indent=2) if as_json else recipe.to_yaml(), nl=as_json)


@click.command("plugins")
@plugin_option
@as_json
def list_plugins(plugins: tuple, as_json: bool) -> None:
    """Installed plugin packages (and --plugin files): what each registers, and why what fails does (exit code 1)."""
    from genzoo.plugins import survey

    found = survey(plugins)
    if as_json:
        click.echo(json.dumps([vars(plugin) for plugin in found], indent=2))
    elif not found:
        click.echo("no plugins: no installed package names parts of genzoo (`genzoo new decoder NAME` writes one)")
    for plugin in () if as_json else found:
        click.echo(f"{plugin.name} {plugin.version or '(file)'}{f': {plugin.problem}' if plugin.problem else ''}")
        for place, problem in plugin.parts.items():
            click.echo(f"  {'failed' if problem else 'ok':6}  {place}{f': {problem}' if problem else ''}")
    sys.exit(0 if all(plugin.sound for plugin in found) else 1)


@click.command()
@click.argument("kind", shell_complete=complete_kind)
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write. [default: NAME]")
def new(kind: str, name: str, out: Path | None) -> None:
    """Write an installable package with a working part of KIND: the part, a recipe, a test, a README."""
    from genzoo.scaffold import write

    package = write(kind_of(kind), name, out)
    click.echo(f"wrote {package.folder}: the part is in {package.part}\n\n{package.next_steps}")


@click.command()
@click.argument("what", metavar="KIND/NAME | PATH", shell_complete=complete_part)
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...")
@click.option(
    "--compile",
    "backend",
    default="aot_eager",
    show_default=True,
    help="Backend of torch.compile; inductor: as trained.",
)
@plugin_option
@as_json
def check(what: str, options: tuple, backend: str, plugins: tuple, as_json: bool) -> None:
    """Run the conformance tests on a part (options as in a recipe) or on all parts of a plugin file. Exit 1: failed."""
    from genzoo.edits import apply
    from genzoo.plugin_files import load_file, parts_of
    from genzoo.testing import examine

    for plugin in plugins:
        load_file(plugin)
    kind, slash, name = what.partition("/")
    is_place = Path(what).exists() or what.endswith(".py") or what.startswith((".", "/", "~"))
    if is_place and not (slash and kind in KINDS):
        load_file(what)
        places = parts_of(what)
    elif slash:
        places = [f"{kind_of(kind)}/{name}"]
    else:
        raise UserError(f"'{what}' is neither KIND/NAME (such as decoders/resnet) nor a file or folder")
    tree: dict = {}
    apply(tree, {}, options)
    results = []
    for place in places:
        if not as_json:
            click.echo(place)
        for result in examine(place, tree, backend=backend):
            results.append(result)
            if not as_json:
                click.echo(result.to_text())
    if as_json:
        click.echo(json.dumps([vars(result) for result in results], indent=2))
    failed = sum(result.outcome == "failed" for result in results)
    if not as_json:
        click.echo(f"{failed} of {len(results)} checks failed" if failed else f"{len(results)} checks, none failed")
    sys.exit(1 if failed else 0)


def kind_of(word: str) -> str:
    """A kind by its name or its singular: `decoder` is `decoders`."""
    if word in KINDS:
        return word
    if f"{word}s" in KINDS:
        return f"{word}s"
    raise UserError(f"no kind '{word}'{suggestion(word, KINDS)} (kinds: {', '.join(KINDS)})")
