"""Commands about datasets."""

import click

from genzoo.cli.options import plugin_option


@click.group()
def data() -> None:
    """Prepared datasets: list, prepare."""


@data.command("ls")
def data_ls() -> None:
    """Prepared sets in the user's cache, with their size and place."""
    from genzoo.data.store import listing

    for row in listing():
        splits = row.card["splits"] if row.card else {}
        counts = ", ".join(f"{name} {entry['num_images']:,}" for name, entry in splits.items()) or "unfinished"
        click.echo(f"{row.path.name:32} {row.num_bytes / 1e6:10.1f} MB  {counts}  {row.path}")


@data.command("prepare")
@click.argument("name")
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...")
@plugin_option
def data_prepare(name: str, options: tuple, plugins: tuple) -> None:
    """Prepare dataset NAME (options as in a recipe's `data`: root=..., size=...) before the first run needs it.

    One that is prepared already is read again and compared with its checksum.
    """
    from genzoo.config import build, parse, part
    from genzoo.data.store import prepare
    from genzoo.edits import apply
    from genzoo.plugin_files import load_file
    from genzoo.progress import shown
    from genzoo.registry import DATASETS

    for plugin in plugins:
        load_file(plugin)
    tree = {"name": name}
    apply(tree, {}, [option.removeprefix("data.") for option in options])  # as messages and recipes call them
    config = parse(part(DATASETS), tree, "data")
    with shown() as report:
        splits = prepare(build(DATASETS, config), config, report)
    for split, images in splits.items():
        images.verify()
        click.echo(f"{split}: {len(images):,} images, sha256 {images.sha256}")
