"""Commands that put a trained run to use: reconstruct, encode, decode, panels, explore, export."""

import json
from pathlib import Path

import click

from genzoo.cli.options import as_json, plugin_option
from genzoo.errors import UserError


def run_argument(hub: bool = False):
    """RUN: a run folder; with `hub` also a model of the Hugging Face Hub, fetched, as genzoo.load takes it."""

    def place(context: click.Context, parameter: click.Parameter, value: str) -> Path:
        if not value.startswith("hf://"):
            return Path(value)
        if not hub:
            raise UserError(
                f"{value}: `genzoo {context.info_name}` needs a run folder, and the Hub holds a model alone; "
                "genzoo.load, reconstruct, encode and decode take it"
            )
        from genzoo import hub_folder

        return hub_folder.fetch(value)

    return click.argument("folder", metavar="RUN", callback=place, shell_complete=click.Path().shell_complete)


part_option = click.option(
    "--part",
    "parts",
    multiple=True,
    help="y, or a branch or map by name (y1, y2, sigma); several: a folder each. [default: y]",
)


def _out(what: str):
    return click.option("--out", type=click.Path(path_type=Path), required=True, help=what)


@click.command()
@run_argument(hub=True)
@click.argument("images")
@_out("Folder for the PNG files.")
@part_option
@click.option(
    "--beside", is_flag=True, help="One picture an image: the image as the model was given it, then the parts."
)
@plugin_option
def reconstruct(folder: Path, images: str, out: Path, parts: tuple, beside: bool, plugins: tuple) -> None:
    """Encode and decode images of your own: any folder, zip or file of images, an .npy or .npz, or DATASET:SPLIT.

    RUN: a run folder, a folder of `genzoo export --to hf`, or hf://OWNER/NAME; encode and decode take these, too.

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
@run_argument(hub=True)
@click.argument("images")
@_out("The .npz file to write.")
@plugin_option
def encode(folder: Path, images: str, out: Path, plugins: tuple) -> None:
    """Write the latents of images: an .npz of `mean`, `variance`, `codes` where there are, and the files' `names`.

    IMAGES: any folder, zip or file of images, an .npy or .npz, or DATASET:SPLIT.
    """
    from genzoo import trained
    from genzoo.progress import shown

    with shown() as report:
        shapes = trained.encode(folder, images, out, plugins=plugins, progress=report)
    click.echo(f"{out}: " + ", ".join(f"{key} {' x '.join(map(str, shape))}" for key, shape in shapes.items()))


@click.command()
@run_argument(hub=True)
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
@run_argument()
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
@run_argument()
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


@click.command()
@run_argument()
@click.option("--to", "target", type=click.Choice(["onnx", "torch", "hf"]), required=True, help="The form to write.")
@click.option("--out", type=click.Path(path_type=Path), help="A new folder. [default: RUN/export/onnx, ...]")
@click.option("--license", "licence", help="Of the weights, for --to hf, such as cc-by-4.0. [default: unknown]")
@click.option("--push", "repo", metavar="OWNER/NAME", help="Upload the folder of --to hf to the Hugging Face Hub.")
@click.option("--private", is_flag=True, help="With --push: a repository that others do not see.")
@plugin_option
@as_json
def export(
    folder: Path,
    target: str,
    out: Path | None,
    licence: str | None,
    repo: str | None,
    private: bool,
    plugins: tuple,
    as_json: bool,
) -> None:
    """Write the model of a run for other programs: its newest checkpoint, in a folder of its own.

    onnx, torch: the encoder and the decoder as graphs for batches of any size, for onnxruntime and torch.export.load;
    each is run and compared with the model. hf: a folder for the Hugging Face Hub, which genzoo.load(FOLDER) and
    genzoo.load("hf://OWNER/NAME") read.
    """
    from genzoo.export.run import export as write

    path, about = write(folder, target, out, licence=licence or "unknown", repo=repo, private=private, plugins=plugins)
    if as_json:
        click.echo(json.dumps({"folder": str(path), **about}, indent=2))
        return
    for graph in about.get("graphs", {}).values():
        ends = (graph["inputs"], graph["outputs"])
        shapes = [
            ", ".join(f"{name} {' x '.join(map(str, one['shape']))}" for name, one in end.items()) for end in ends
        ]
        apart = f"{graph['largest_difference']:.1e} from the model at most, {about['tolerance']:.0e} is allowed"
        click.echo(f"{path / graph['file']}: {' -> '.join(shapes)}; {apart} ({graph['checked_with']})")
    for what, why in about.get("not_exported", {}).items():
        click.echo(f"not exported: {what}: {why}")
    if target == "hf":
        click.echo(f"{path}: {', '.join(about['files'])}" + (f"; uploaded to {about['url']}" if repo else ""))
