"""metrics.json in words: what the end of a run prints."""

from pathlib import Path

from genzoo.evaluation.branches import describe
from genzoo.evaluation.protocol import caveat


def summary(metrics: dict, folder: Path) -> str:
    """A few lines for a person; `metrics` is what metrics.json of the run `folder` holds."""
    train, latent = metrics["train"], metrics["latent"]
    lines = [f"{metrics['name']}: {_training(train)}"]
    if train.get("reconstruction_mse") is not None:
        lines.append(f"last epoch: reconstruction MSE {train['reconstruction_mse']:.4f} per pixel")
        if train.get("kl") is not None:  # an autoencoder has none
            lines[-1] += f", KL {train['kl']:.1f} nats per image"
    lines.append(f"latent: {latent['num_latents']} variables")
    if latent["variance_law"]:  # against a standard normal prior
        lines[-1] += (
            f"; inactive: {latent['inactive_by_mean_variance']} by the variance of the mean (< 0.05), "
            f"{latent['inactive_by_posterior_variance']} by their posterior variance (> 0.95)"
        )
    lines += [*train.get("notes", []), *([latent["note"]] if "note" in latent else [])]
    lines += [describe(metrics["split"]), *_tables(metrics["scores"])]
    if (folder / "report.html").is_file():
        lines.append(f"all of it on one page: {folder / 'report.html'}")
    lines.append(f"pictures: {folder / 'panels'}   every number and how it was made: {folder / 'metrics.json'}")
    return "\n".join(lines)


def _training(train: dict) -> str:
    if train.get("interrupted"):
        return f"interrupted, last logged step {train.get('step', 0):,}"
    return (
        f"{train['num_parameters']:,} parameters, {train['steps']:,} steps in {train['seconds']:.0f} s "
        f"({train['images_per_s']:.0f} images/s, {train['precision']}, {train['device']})"
    )


def _tables(scores: list[dict]) -> list[str]:
    """A table for each metric: a row a generator, a column a part."""
    lines = []
    for metric, features in dict.fromkeys((entry["metric"], entry["features"]) for entry in scores):
        entries = [entry for entry in scores if (entry["metric"], entry["features"]) == (metric, features)]
        about = entries[0]
        if not features:
            lines.append(_of_model(about))
            continue
        parts = list(dict.fromkeys(entry["part"] for entry in entries if "skipped" not in entry))
        lines.append(
            f"{metric} on {features} features, against {about['num_reference']:,} {about['reference']} images"
            + ("; few images: a biased number" if any("few" in entry for entry in entries) else "")
        )
        values = [abs(entry["value"]) for entry in entries if "skipped" not in entry]
        digits = 2 if max(values, default=0) >= 1 else 4  # KID and rates are all below 1
        if parts:
            lines.append(f"  {'':16}" + "".join(f"{part:>9}" for part in parts) + "   images")
        for generator in dict.fromkeys(entry["generator"] for entry in entries):
            mine = {entry["part"]: entry for entry in entries if entry["generator"] == generator}
            reason = next((entry["skipped"] for entry in mine.values() if "skipped" in entry), None)
            if reason:
                lines.append(f"  {generator:16} skipped: {reason}")
                continue
            cells = "".join(f"{mine[part]['value']:9.{digits}f}" if part in mine else f"{'':9}" for part in parts)
            first = next(iter(mine.values()))
            note = f"   {first['note']}" if "note" in first else ""
            lines.append(f"  {generator:16}{cells}{first['num_samples']:9,}{note}")
    return lines


def _of_model(entry: dict) -> str:
    """A score of the trained model itself, in one line."""
    if "skipped" in entry:
        return f"{entry['metric']} skipped: {entry['skipped']}"
    error = entry.get("standard_error")
    bar = "" if error is None else f" ± {error:.2g}"
    notes = "".join(f"; {words}" for words in (entry.get("unit"), caveat(entry), entry.get("note")) if words)
    images = f"{entry['num_reference']:,} {entry['reference']} images"
    return f"{entry['metric']} {entry['value']:.5g}{bar}   of {images}: {entry['estimator']}{notes}"
