"""The stories of a run's split and of its latent, told from metrics.json: charts, and what they mean."""

import numpy as np

from genzoo.evaluation.branches import HIGH_FREQUENCY
from genzoo.evaluation.drawing import color_map
from genzoo.evaluation.latent import INACTIVE_MEAN, INACTIVE_POSTERIOR
from genzoo.reports.charts import Bar, bars

MEANINGS = {
    "semantic": "The branches have become two pictures of the same thing, and the map chooses between them by area and "
    "contour: look at each branch alone, one of them is often sharper than their mixture.",
    "syntactic": "The branches share the pixels out between them in a fine pattern, as the two fields of an interlaced "
    "picture do. A branch alone is half of the pattern; only the mixture y is an image.",
    "collapsed": "The second branch adds nothing: the model is a plain one with more weights. Another beta, separate "
    "decoders (trunk: pair) or more steps may wake it.",
}


def split_story(split: dict) -> dict[str, object]:
    """What the template shows of a record's `split`: its meaning, its maps' histogram and spectrum where recorded."""
    return {
        "record": split,
        "meaning": MEANINGS.get(split["kind"], ""),
        "histogram": _histogram(split["sigma_histogram"], split["sigma_mean"]) if "sigma_histogram" in split else None,
        "spectrum": _spectrum(split["sigma_spectrum"]) if "sigma_spectrum" in split else None,
    }


def _histogram(shares: list[float], mean: float) -> dict[str, object]:
    """shares: of the maps' pixels in equal intervals of [0, 1]; each bar has the colour that the map has there."""
    num, tenth = len(shares), max(1, len(shares) // 10)
    columns = []
    for k, share in enumerate(shares):
        color = "#{:02x}{:02x}{:02x}".format(*color_map()[round(255 * k / max(1, num - 1))])
        columns.append(
            Bar(f"{k / num:.2f} to {(k + 1) / num:.2f}: {share:.1%} of the pixels", [100 * share], fill=color)
        )
    low, high = (f"{sum(some):.0%} of the pixels" for some in (shares[:tenth], shares[-tenth:]))
    said = f"{low} below {tenth / num:.2f}, {high} above {1 - tenth / num:.2f}"
    alt = f"Histogram of the map's values: {said}; the first branch weighs {mean:.2f} on average."
    return {
        "said": said,
        "svg": bars(columns, alt=alt, x_label="value of the map (up: % of its pixels)", x_range=(0, 1)),
    }


def _spectrum(shares: list[float]) -> dict[str, object]:
    """shares: of the maps' energy in equal intervals of [0, 1/2] cycles per pixel."""
    num, edge = len(shares), round(2 * HIGH_FREQUENCY * len(shares))
    columns = []
    for k, share in enumerate(shares):
        low, high = k / num / 2, (k + 1) / num / 2
        title = f"{low:.3f} to {high:.3f} cycles per pixel: {share:.1%} of the energy"
        columns.append(Bar(title, [100 * share], "hot" if k >= edge else ""))
    said = f"{sum(shares[edge:]):.1%} at periods of three pixels or less (orange)"
    most = int(np.argmax(shares))
    alt = (
        f"Spectrum of the map: of its energy {said}; the largest share, {shares[most]:.0%}, lies between "
        f"{most / num / 2:.2f} and {(most + 1) / num / 2:.2f} cycles per pixel."
    )
    return {"said": said, "svg": bars(columns, alt=alt, x_label="cycles per pixel (up: % of energy)", x_range=(0, 0.5))}


def latent_story(latent: dict) -> dict[str, object]:
    """What the template shows of a record's `latent`: the variance law, variable by variable where recorded."""
    made: dict[str, object] = {"record": latent, "charts": {}}
    if "variables" not in latent:
        return made
    pairs = list(zip(latent["variables"]["mean_variance"], latent["variables"]["posterior_variance"], strict=True))
    law = latent.get("variance_law")  # of a prior that is no standard normal it says nothing
    columns, inactive = [], 0
    for d in sorted(range(len(pairs)), key=lambda d: -pairs[d][0]):
        mean, posterior = pairs[d]
        off = bool(law) and (mean < INACTIVE_MEAN or posterior > INACTIVE_POSTERIOR)
        inactive += off
        title = f"z{d}: variance of its mean {mean:.3f} + mean variance {posterior:.3f} = {mean + posterior:.3f}"
        columns.append(Bar(title + (" (inactive)" if off else ""), [mean, posterior], "off" if off else ""))
    alt = f"Bars of {len(pairs)} latent variables, the most active first: variance of the mean, and of the posterior."
    if law:
        alt += (
            f" {inactive} are inactive. The sums of both variances lie between {law['min']:.2f} and {law['max']:.2f}, "
            f"{law['mean']:.2f} on average; the law: 1."
        )
    rule = (1.0, "variance law: 1") if law else None
    charts = {
        name: bars(columns, alt=alt, x_label="latent variables, the most active first", ticks_of_x=False,
                   x_range=(0, len(pairs)), rule=rule, width=width, height=height)
        for name, width, height in (("broad", 760, 230), ("narrow", 360, 190))  # the page shows the one that fits
    }  # fmt: skip
    return {**made, "charts": charts, "inactive": inactive}


def codebook_story(levels: list[dict]) -> list[dict[str, object]]:
    """Charts of how often each code is used, the most used first, a level each."""
    made = []
    for number, level in enumerate(levels, 1):
        shares = level["shares"]
        columns = [
            Bar(f"code at place {k}: {share:.2%} of the positions", [100 * share]) for k, share in enumerate(shares, 1)
        ]
        name = f"level {number}: " if len(levels) > 1 else ""
        used = f"{level['num_used']:,} of {level['num_codes']:,} codes in use"
        said = f"{name}{used}, perplexity {level['perplexity']:.1f}"
        alt = f"Shares of the {len(shares)} most used codes. {said}; the most used has {shares[0]:.1%}."
        svg = bars(columns, alt=alt, x_label="codes, the most used first (up: % of positions)", ticks_of_x=False,
                   x_range=(0, len(shares)), rule=(100 / level["num_codes"], "all used alike"))  # fmt: skip
        made.append({"said": said, "svg": svg})
    return made
