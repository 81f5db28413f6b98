"""Diagnostics of a composition: how its maps share the image out among the branches."""

import itertools
from math import log

import torch
from torch import Tensor

from genzoo.parts import Composition

HIGH_FREQUENCY = 1 / 3  # cycles per pixel: periods of three pixels and less
LEVEL = 1 / 255  # one grey level
NUM_BINS, NUM_RINGS = 32, 15  # of the maps' histogram; of their spectrum, so that HIGH_FREQUENCY is an edge of rings


class BranchDiagnostics:
    """Running diagnostics over batches of compositions.

    A composition has K branches y_k and K weights: its K maps, or (sigma, 1 - sigma) when it has one map.
    """

    def __init__(self):
        self._num = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, composition: Composition) -> None:
        """Take in a batch; a composition without maps and branches leaves no trace."""
        branches = [y.float() for y in composition.branches.values()]
        maps = [m.float() for m in composition.maps.values()]
        if not maps or len(branches) < 2:
            return
        weights = torch.stack([maps[0], 1 - maps[0]] if len(maps) == 1 else maps)  # K b 1|c h w
        image = composition.image.float()
        pairs = itertools.combinations(branches, 2)
        high, total, rings = zip(*(_spectrum(m) for m in maps), strict=True)
        for name, value in {
            "weights": weights.mean(dim=(2, 3, 4)).sum(dim=1),
            "entropy": -torch.special.xlogy(weights, weights).sum(dim=0).mean(dim=(1, 2, 3)).sum() / log(len(weights)),
            "high": sum(high),
            "varying": sum(total),
            "contrast": sum(total) / len(maps),
            "rings": sum(rings),
            "histogram": torch.stack([m.histc(NUM_BINS, 0, 1) / m[0].numel() for m in maps]).mean(dim=0),
            "distance": torch.stack([(a - b).square().mean(dim=(1, 2, 3)).sum() for a, b in pairs]).mean(),
            "change": torch.stack([(image - y).square().mean(dim=(1, 2, 3)).sum() for y in branches]),
        }.items():
            self._sums[name] = self._sums.get(name, 0) + value.cpu().double()
        self._num += len(image)

    def summary(self) -> dict | None:
        """The record's `split`, or None when there was nothing to split.

        sigma_mean: the first branch's mean weight; weights: every branch's. sigma_entropy: mean entropy of the weights
        at a pixel, in units of log K: 0 where one branch is chosen, 1 where all count the same. sigma_high_frequency:
        the share of the maps' spectral energy, constant term left out, where the vertical or the horizontal frequency
        is at least 1/3 cycles per pixel: 1 for a checkerboard, 5/9 for white noise, about 1/3 for the thinnest lines of
        any direction, less for wider lines and areas. sigma_contrast: RMS of the maps about their means over the image.
        sigma_histogram: share of the maps' pixels in each of NUM_BINS equal intervals of [0, 1]. sigma_spectrum: share
        of their energy, constant term left out, by the larger of the two frequencies, in NUM_RINGS equal intervals of
        [0, 1/2] cycles per pixel: the last five add up to sigma_high_frequency.
        branch_distance: RMS difference between two branches over pixels, channels and pairs. kind:

        - collapsed: the split adds nothing, because some branch alone is within one grey level (RMS) of the image - the
          branches are equal, or the map is stuck at one of them - or because the maps are flat (contrast below 0.02)
          and the image is a fixed average;
        - syntactic: else, when sigma_high_frequency >= 0.5: the maps alternate from pixel to pixel;
        - semantic: else: the maps follow areas and contours.
        """
        if not self._num:
            return None
        mean = {name: value / self._num for name, value in self._sums.items()}
        high_frequency = float(mean["high"] / mean["varying"]) if mean["varying"] > 0 else 0.0
        rings = mean["rings"] / mean["varying"].clamp(min=torch.finfo(torch.float64).tiny)
        contrast = float(mean["contrast"].sqrt())
        change = float(mean["change"].min().sqrt())
        if change < LEVEL or contrast < 0.02:
            kind = "collapsed"
        else:
            kind = "syntactic" if high_frequency >= 0.5 else "semantic"
        return {
            "sigma_mean": float(mean["weights"][0]),
            "sigma_entropy": float(mean["entropy"]),
            "sigma_high_frequency": high_frequency,
            "sigma_contrast": contrast,
            "branch_distance": float(mean["distance"].sqrt()),
            "nearest_branch_distance": change,
            "sigma_histogram": [round(share, 6) for share in mean["histogram"].tolist()],
            "sigma_spectrum": [round(share, 6) for share in rings.tolist()],
            "weights": mean["weights"].tolist(),
            "kind": kind,
            "num_images": self._num,
        }


def _spectrum(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Energy of a map b c h w at high and at all non-zero frequencies, and by ring; a pixel's mean, summed over b."""
    h, w = m.shape[-2:]
    energy = torch.fft.fft2(m).abs().square().mean(dim=1).sum(dim=0) / (h * w) ** 2
    energy[0, 0] = 0
    fy, fx = torch.fft.fftfreq(h, device=m.device), torch.fft.fftfreq(w, device=m.device)
    frequency = torch.maximum(fy.abs()[:, None], fx.abs())
    ring = (frequency * 2 * NUM_RINGS + 1e-4).long().clamp_(max=NUM_RINGS - 1)
    rings = torch.zeros(NUM_RINGS, device=m.device).index_add_(0, ring.flatten(), energy.flatten())
    return energy[frequency >= HIGH_FREQUENCY - 1e-6].sum(), energy.sum(), rings


def describe(split: dict | None) -> str:
    """`BranchDiagnostics.summary()` in one sentence."""
    if split is None:
        return "The model has one decoder and no split."
    num_branches = len(split["weights"])
    who = "the two branches" if num_branches == 2 else f"the {num_branches} branches"
    distance = f"RMS distance {split['branch_distance']:.3f}"
    share = f"{split['sigma_high_frequency']:.0%} of the map's energy is at periods of three pixels or less"
    if split["kind"] == "collapsed":
        if split["branch_distance"] < LEVEL:
            reason = "the branches make the same image"
        elif split["nearest_branch_distance"] < LEVEL:
            reason = f"branch {1 + max(range(num_branches), key=split['weights'].__getitem__)} alone makes the image"
        else:
            reason = "the map is flat, so that the image is a fixed average of the branches"
        return f"The split collapsed: {reason} ({distance})."
    if split["kind"] == "syntactic":
        return f"The split is syntactic: {who} alternate from pixel to pixel ({share}; {distance})."
    return f"The split is semantic: {who} are images of their own and the map follows contours ({share}; {distance})."
