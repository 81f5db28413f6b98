"""Commands about recipes."""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import click

from genzoo.cli.options import as_json, complete_recipe, plugin_option
from genzoo.errors import UserError
from genzoo.files import write_text


@click.group()
def recipes() -> None:
    """Shipped recipes and recipe files: list, copy, check, compare, describe."""


@recipes.command("ls")
@as_json
def recipes_ls(as_json: bool) -> None:
    """Names of the shipped recipes, with what each is for."""
    from genzoo.recipe_file import shipped

    rows = []
    for name, path in shipped().items():
        about = path.read_text(encoding="utf-8").splitlines()[1].lstrip("# ")
        rows.append({"name": name, "description": about, "path": str(path)})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(f"{row['name']:{width}}  {row['description']}")


@recipes.command("cp")
@click.argument("recipe", shell_complete=complete_recipe)
@click.argument("target", required=False, type=click.Path(path_type=Path))
def recipes_cp(recipe: str, target: Path | None) -> None:
    """Copy RECIPE (a shipped name or a file) to TARGET, a file or folder, to be edited. [default: here]"""
    from genzoo.recipe_file import find, load

    source = find(recipe)
    target = target or Path(".")
    target = target / source.name if target.is_dir() else target
    if target.exists():
        raise UserError(f"{target} exists: name another file")
    if not target.absolute().parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}")
    tree, _ = load(source)
    if tree.get("plugins") and target.absolute().parent != source.absolute().parent:
        raise UserError(f"{source} names plugins relative to itself: copy it into the same folder, or copy them too")
    text = source.read_text(encoding="utf-8")
    if text.startswith("# genzoo run "):
        text = f"# genzoo run {target.as_posix()}\n" + text.partition("\n")[2]
    write_text(target, text)
    click.echo(f"{target} (genzoo run {target})")


@recipes.command("validate")
@click.argument("recipe", shell_complete=complete_recipe)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_option
@as_json
def recipes_validate(recipe: str, overrides: tuple, plugins: tuple, as_json: bool) -> None:
    """Check RECIPE and build its model on the meta device: shapes, parameters, memory. Reads no data."""
    gc.disable()  # almost all of this is imports, which make no garbage to look for

    from genzoo.preparation import build_parts
    from genzoo.recipe import read
    from genzoo.tracing.measures import measure

    resolved = read(recipe, overrides, plugins)
    checked = build_parts(resolved)
    measures = measure(resolved.model, checked.dataset.image_shape, resolved.objective, resolved.terms)
    batch = resolved.train.batch_size // resolved.train.grad_accumulation
    memory = {
        "activation_bytes_per_image": measures.activation_bytes,
        "batch_size": batch,
        "activation_bytes": measures.activation_bytes * batch,
        "weights_gradients_and_optimizer_bytes": measures.fixed_bytes,
    }
    image = {"part": f"datasets/{resolved.data.name}", "depth": 0, "shape": checked.dataset.image_shape}
    stages = [{**image, "num_parameters": 0}, *measures.stages]
    if as_json:
        made = {"name": resolved.name, "stages": stages, "num_parameters": measures.num_parameters, "memory": memory}
        click.echo(json.dumps(made, indent=2))
        return
    width = max(len(stage["part"]) + 2 * stage["depth"] for stage in stages)
    for stage in stages:
        name = "  " * stage["depth"] + stage["part"]
        num = f"{stage['num_parameters']:,}" if stage["num_parameters"] else ""
        click.echo(f"{name:{width}} {'x'.join(map(str, stage['shape'])):>12} {num:>14}")
    click.echo(f"{'trainable parameters':{width}} {'':>12} {measures.num_parameters:>14,}")
    click.echo(
        f"memory in float32: {measures.activation_bytes / 2**20:.1f} MiB of activations an image, "
        f"{memory['activation_bytes'] / 2**30:.2f} GiB a batch of {batch}; "
        f"{measures.fixed_bytes / 2**30:.2f} GiB for weights, gradients and Adam's moments"
    )


@recipes.command("diff")
@click.argument("a", metavar="RECIPE | RUN", shell_complete=complete_recipe)
@click.argument("b", metavar="RECIPE | RUN", shell_complete=complete_recipe)
@plugin_option
@as_json
def recipes_diff(a: str, b: str, plugins: tuple, as_json: bool) -> None:
    """Compare two recipes, or the recipes, versions, plugins and data of two runs, field by field, defaults included.

    Of a part in the place of another, options at their defaults are left out. Exit code 1 when they differ, as diff(1).
    """
    (left, left_out), (right, right_out) = (_fields(word, plugins) for word in (a, b))
    absent = object()
    rows = [
        {"field": key, "a": left.get(key), "b": right.get(key)}
        for key in left | right
        if left.get(key, absent) != right.get(key, absent)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    for row in () if as_json else rows:
        if row["field"] in (left_out - right.keys()) | (right_out - left.keys()):
            continue
        sides = (json.dumps(row[side]) if row["field"] in known else "-" for side, known in (("a", left), ("b", right)))
        click.echo(f"{row['field']}: {' -> '.join(sides)}")
    sys.exit(1 if rows else 0)


@recipes.command("schema")
@plugin_option
def recipes_schema(plugins: tuple) -> None:
    """Print a JSON Schema of recipes with the options of every installed part, for editors that complete and check."""
    from genzoo.plugin_files import load_file
    from genzoo.schema import schema

    for plugin in plugins:
        load_file(plugin)
    click.echo(json.dumps(schema(), indent=2))


def _fields(source: str, plugins: tuple) -> tuple[dict[str, Any], set[str]]:
    """Place in the recipe (or `lock.` and place in lock.json) -> value; and the places of options at their defaults."""
    from genzoo.config import leaves
    from genzoo.recipe import read
    from genzoo.run_folder import RunFolder

    folder = RunFolder(source)
    values: dict[str, Any] = {}
    is_run = folder.path.is_dir()
    if is_run and (recorded := folder.lock()):
        values |= leaves({key: recorded.get(key) for key in ("versions", "plugins", "data", "device")}, "lock")
    recipe = folder.recipe(plugins=plugins) if is_run else read(source, (), plugins)
    options = dict(leaves(recipe.model_dump(mode="json")))
    return values | options, options.keys() - dict(leaves(recipe.model_dump(mode="json", exclude_defaults=True))).keys()
