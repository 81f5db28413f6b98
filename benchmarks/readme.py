"""Write README's results table from the committed results: `python benchmarks/readme.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MARKS = re.compile(r"(<!-- results: [^\n]*-->\n).*?(<!-- end of results -->)", re.DOTALL)
COLUMNS = [
    ("vae_mnist_cpu", "y", "VAE"),
    *(("svae_mnist_cpu", part, f"Split {part}") for part in ("y", "y1", "y2", "mix")),
]


def table() -> str:
    """The Markdown between README's marks."""
    runs = {
        name: json.loads((RESULTS / name / "metrics.json").read_text()) for name in ("vae_mnist_cpu", "svae_mnist_cpu")
    }
    scores = {
        (name, entry["generator"], entry["part"]): entry
        for name, run in runs.items()
        for entry in run["scores"]
        if entry["metric"] == "fd" and entry["features"] == "efficientnet_lite0"
    }
    about = next(iter(scores.values()))
    lines = [
        "| fd, EfficientNet-Lite0 | " + " | ".join(title for _, _, title in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for generator in dict.fromkeys(generator for _, generator, _ in scores):
        cells = (f"{scores[name, generator, part]['value']:.1f}" for name, part, _ in COLUMNS)
        lines.append(f"| {generator} | " + " | ".join(cells) + " |")
    facts = []
    for name, title in (("vae_mnist_cpu", "VAE"), ("svae_mnist_cpu", "Split VAE")):
        train, latent = runs[name]["train"], runs[name]["latent"]
        facts.append(
            f"{title}: {train['num_parameters']:,} parameters, reconstruction MSE {train['reconstruction_mse']:.4f} "
            f"per pixel at {train['kl']:.1f} nats per image in the last epoch, "
            f"{latent['inactive_by_mean_variance']} of {latent['num_latents']} latents inactive"
        )
    split = runs["svae_mnist_cpu"]["split"]
    facts.append(f"the split is {split['kind']}")
    counts = f"{about['num_samples']:,} samples against {about['num_reference']:,} test images."
    return "\n".join(["", *lines, "", f"{counts} " + "; ".join(facts) + ".", ""])


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(MARKS.sub(lambda match: match[1] + table() + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
