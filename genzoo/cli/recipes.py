"""Commands about recipes."""

from __future__ import annotations

import click

from genzoo.cli.options import plugin_option


@click.group()
def recipes() -> None:
    """Shipped recipes: list, check."""


@recipes.command("ls")
def recipes_ls() -> None:
    """Names of the shipped recipes, with what each is for."""
    from genzoo.recipe_file import shipped

    for name, path in shipped().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        click.echo(f"{name:16} {lines[1].lstrip('# ')}")


@recipes.command("validate")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_option
def recipes_validate(recipe: str, overrides: tuple, plugins: tuple) -> None:
    """Check RECIPE and build its model on the meta device: shapes and parameter counts, without reading data."""
    from genzoo import run as runs
    from genzoo.recipe import read

    stages = runs.check(read(recipe, overrides, plugins)).stages
    for name, (shape, num_parameters) in stages.items():
        click.echo(f"{name:24} {'x'.join(map(str, shape)):>12} {f'{num_parameters:,}' if num_parameters else '':>14}")
    click.echo(f"{'trainable parameters':24} {'':>12} {sum(n for _, n in stages.values()):>14,}")
