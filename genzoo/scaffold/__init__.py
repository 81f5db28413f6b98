"""`genzoo new`: a package with one working part of its own, from the templates (*.txt) in this folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

from genzoo.errors import UserError
from genzoo.files import making, write_text
from genzoo.registry import KINDS

TEMPLATES = Path(__file__).parent
NAME = re.compile(r"(?:(?P<owner>[a-z][a-z0-9_-]*)/)?(?P<bare>[a-z][a-z0-9_]*)")

# What the digits recipe says at the place of each kind; the new part takes its kind's place.
RECIPE = {
    "datasets": "{name: digits, size: 32}",
    "encoders": "{name: resnet, base_dim: 16, embed_dim: 256}",
    "latents": "{name: gaussian, dim: 16}",
    "decoders": "{name: resnet, base_dim: 16}",
    "heads": "{name: split, decoder: $decoders}",
    "priors": "",
    "objectives": "{name: elbo, reconstruction: mse, gamma: balanced, beta: 4.0}   # KL in nats per image",
    "terms": "",
    "samplers": "{name: prior}",
    "features": "efficientnet_lite0",
    "metrics": "{name: fd, features: $features}",
}


@dataclass(frozen=True)
class Written:
    """The package that was written."""

    folder: Path
    part: Path  # the file with the part's class
    next_steps: str


def write(kind: str, name: str, folder: Path | None = None) -> Written:
    """Write the package of a part `kind/name` into `folder` (by default `name`, an owner joined by a dash).

    UserError when the name is no name or is taken, or the folder exists; then nothing is written.
    """
    match = NAME.fullmatch(name)
    if not match:
        raise UserError(f"'{name}' is no name for a part: lower-case letters, digits and _, such as mine or acme/mine")
    taken = KINDS[kind].entries.get(name)
    if taken:
        raise UserError(f"{kind}/{name} exists already (from {taken.owner}); choose another name, such as acme/{name}")
    folder = folder or Path(name.replace("/", "-"))
    if folder.exists():
        raise UserError(f"{folder} exists: remove it, or choose another folder with --out")
    slug = name.replace("/", "_").replace("-", "_")
    singular = kind if kind == "features" else kind.removesuffix("s")
    title = "".join(word.title() for word in match["bare"].split("_"))
    words = {
        "kind": kind,
        "singular": singular,
        "name": name,
        "contract": singular.title(),  # in genzoo.parts
        "slug": slug,
        "package": f"genzoo-{name.replace('/', '-').replace('_', '-')}",
        "module": f"genzoo_{slug}",
        "cls": title if title.endswith(singular.title()) else title + singular.title(),
        "folder": folder.as_posix(),
        "options": ', {"decoder": {"name": "conv", "base_dim": 4}}' if kind == "heads" else "",  # a small one is quick
    }
    lines = {"priors": f"  prior: {{name: {name}}}\n", "terms": f"terms: [{{name: {name}}}]\n"}  # none by default
    places = {**RECIPE, kind: lines.get(kind, f"{{name: {name}}}")}
    places = {key: Template(value).substitute(places) for key, value in places.items()}
    recipe = _fill("recipe.yaml", {**words, **places})
    files = {
        "pyproject.toml": _fill("pyproject.toml", words),
        "README.md": _fill("README.md", words) + (_fill("study.md", words) if kind == "decoders" else ""),
        f"{words['module']}/__init__.py": f'"""{words["cls"]} for genzoo."""\n',
        f"{words['module']}/{singular}.py": _fill(f"{singular}.py", words),
        f"recipes/{slug}_digits.yaml": recipe,
        f"tests/test_{slug}.py": _fill("test.py", words),
    }
    with making(folder.absolute()) as partial:
        for path, text in files.items():
            write_text(partial / path, text)
    return Written(folder, folder / words["module"] / f"{singular}.py", _fill("next_steps", words))


def _fill(template: str, words: dict[str, str]) -> str:
    return Template((TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(words)
