"""Commands that put a trained run to use: reconstruct, encode, decode, panels, explore."""

from pathlib import Path

import click

from genzoo.cli.options import plugin_option
from genzoo.errors import UserError

run_argument = click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
part_option = click.option(
    "--part",
    "parts",
    multiple=True,
    help="y, or a branch or map by name (y1, y2, sigma); several: a folder each. [default: y]",
)


def _out(what: str):
    return click.option("--out", type=click.Path(path_type=Path), required=True, help=what)


@click.command()
@run_argument
@click.argument("images")
@_out("Folder for the PNG files.")
@part_option
@click.option(
    "--beside", is_flag=True, help="One picture an image: the image as the model was given it, then the parts."
)
@plugin_option
def reconstruct(folder: Path, images: str, out: Path, parts: tuple, beside: bool, plugins: tuple) -> None:
    """Encode and decode images of your own: any folder, zip or file of images, an .npz, or DATASET:SPLIT.

    They are turned upright and brought to the model's size: the centre of the model's proportions, resized.
    """
    from genzoo import trained
    from genzoo.progress import shown

    with shown() as report:
        source = trained.reconstruct(
            folder, images, out, parts or ("y",), beside=beside, plugins=plugins, progress=report
        )
    click.echo(f"{len(source):,} images in {out} ({source.processing})")


@click.command()
@run_argument
@click.argument("images")
@_out("The .npz file to write.")
@plugin_option
def encode(folder: Path, images: str, out: Path, plugins: tuple) -> None:
    """Write the latents of images: an .npz of `mean`, `variance`, `codes` where there are, and the files' `names`.

    IMAGES: any folder, zip or file of images, an .npz, or DATASET:SPLIT.
    """
    from genzoo import trained
    from genzoo.progress import shown

    with shown() as report:
        shapes = trained.encode(folder, images, out, plugins=plugins, progress=report)
    click.echo(f"{out}: " + ", ".join(f"{key} {' x '.join(map(str, shape))}" for key, shape in shapes.items()))


@click.command()
@run_argument
@click.argument("latents", type=click.Path(path_type=Path))
@_out("Folder for the PNG files.")
@part_option
@plugin_option
def decode(folder: Path, latents: Path, out: Path, parts: tuple, plugins: tuple) -> None:
    """Decode the latents of an .npz: its array `z`, or `mean` as `genzoo encode` writes it."""
    from genzoo import trained
    from genzoo.progress import shown

    with shown() as report:
        num = trained.decode(folder, latents, out, parts or ("y",), plugins=plugins, progress=report)
    click.echo(f"{num:,} images in {out}")


@click.command()
@run_argument
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the pictures. [default: RUN/panels]")
@click.option("--part", default="y", show_default=True, help="y, or a branch or map by name (y1, y2, sigma).")
@plugin_option
def panels(folder: Path, out: Path | None, part: str, plugins: tuple) -> None:
    """Draw what the latent of a run holds: ways between images (also animated), its most active variables, neighbours.

    The neighbours are the training images nearest to samples by the distance of their pixels; by that of features:
    genzoo neighbors RUN DATASET:train.
    """
    from genzoo import trained

    for path in trained.panels(folder, out, part=part, plugins=plugins):
        click.echo(path)


@click.command()
@run_argument
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@plugin_option
def explore(folder: Path, opens: bool, plugins: tuple) -> None:
    """Serve a page on which the latent of a run moves: sliders, draws, ways between images, a brush for the map.

    To this machine alone, at the address that is printed; Ctrl-C ends it.
    """
    try:
        from genzoo.explore.server import Server
    except ModuleNotFoundError as error:
        raise UserError(f"explore needs the package {error.name}: pip install 'genzoo[explore]'") from error
    from genzoo.explore.session import session

    server = Server(session(folder, plugins))
    click.echo(server.url)
    if opens:
        click.launch(server.url)
    server.run()
