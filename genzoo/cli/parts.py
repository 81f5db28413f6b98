"""Commands about parts: what is registered, and what each takes."""

from __future__ import annotations

import inspect
import json

import click

from genzoo.cli.options import as_json, plugin_option
from genzoo.errors import UserError, nearest
from genzoo.registry import KINDS


@click.command("list")
@click.argument("kind", required=False)
@click.argument("pattern", default="*")
@plugin_option
@as_json
def list_parts(kind: str | None, pattern: str, plugins: tuple, as_json: bool) -> None:
    """Registered parts of KIND (or of every kind) that match PATTERN, with the package each comes from."""
    from genzoo.plugins import describe, load_file

    for plugin in plugins:
        load_file(plugin)
    if kind and "/" in kind:
        kind, _, pattern = kind.partition("/")
    if kind and kind not in KINDS:
        raise UserError(f"no kind '{kind}'{nearest(kind, KINDS)} (kinds: {', '.join(KINDS)})")
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
        raise UserError(f"nothing matches '{pattern}'{f' in {kind}' if kind else ''}")
    width = max(len(row["kind"]) + len(row["name"]) for row in rows) + 1
    owners = max(len(row["owner"]) for row in rows)
    for row in rows:
        click.echo(f"{row['kind'] + '/' + row['name']:{width}}  {row['owner']:{owners}}  {row['description']}".rstrip())


@click.command()
@click.argument("what", metavar="KIND/NAME | RECIPE")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_option
@as_json
def show(what: str, overrides: tuple, plugins: tuple, as_json: bool) -> None:
    """A part's options with types, defaults and meaning, or a recipe resolved with all its defaults."""
    kind, slash, name = what.partition("/")
    if slash and kind in KINDS:
        from genzoo.config import options
        from genzoo.plugins import load_file

        for plugin in plugins:
            load_file(plugin)
        part = KINDS[kind].get(name)
        rows = options(part.Config)
        if as_json:
            click.echo(json.dumps({"kind": kind, "name": name, "options": rows}, indent=2))
            return
        click.echo(f"{what} ({KINDS[kind].entries[name].owner})\n\n{inspect.getdoc(part) or ''}\n")
        for row in rows:
            click.echo(f"  {row['option']}: {row['type']} = {json.dumps(row['default'])}")
            if row["description"]:
                click.echo(f"      {row['description']}")
        return
    from genzoo.recipe import read

    recipe = read(what, overrides, plugins)
    click.echo(json.dumps(recipe.model_dump(mode="json"), indent=2) if as_json else recipe.to_yaml(), nl=as_json)
