"""Options that several commands share, and what the shell can complete."""

from typing import Any

import click

from genzoo.registry import KINDS

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(), help="A Python file or folder that registers parts."
)


def complete_kind(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(word)]


def complete_part(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    parts = (f"{kind}/{name}" for kind, registry in KINDS.items() for name in registry.entries)
    return [part for part in parts if part.startswith(word)]


def complete_recipe(context: click.Context, parameter: click.Parameter, word: str) -> list[Any]:
    from genzoo.recipe_file import shipped

    names: list[Any] = [name for name in shipped() if name.startswith(word)]
    # A recipe is a shipped name or a file: the shell completes files itself.
    return names or click.Path().shell_complete(context, parameter, word)


def complete_part_or_recipe(context: click.Context, parameter: click.Parameter, word: str) -> list[Any]:
    return complete_part(context, parameter, word) or complete_recipe(context, parameter, word)
