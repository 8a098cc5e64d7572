"""What a verdict consists of: its limits, its evidence and its words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ebm_core.diagnostics import Oscillation

Verdict = Literal["diverged", "collapsed", "unassessed", "nonconvergent", "convergent"]

# Margin of a training that broke off, and the least margin of any other.
MARGIN_FLOOR = -3.0


@dataclass(frozen=True)
class Thresholds:
    """Limits of the requirements.

    Attributes:
        oscillation: Lowest autocorrelation of d that counts as strong, as a size. Well outside the
            95 % bound of the shortest window that is assessed, between what annealed SGD shows
            (0 to -0.12) and what visibly oscillating runs show (-0.4 to -0.8).
        shared: Correlation of d and r at lag 0 that makes an oscillation shared. Rates that are a
            little too high to be harmless show 0.5, strong oscillation 0.7 to 0.9.
        balance: Largest |mean d|, in sd of the energy of samples: data and chains lie as near to
            each other as a long run asks of chains. In the plane 0.2 goes with a KL of 0.1.
        adherence: Least share of updates with r inside the band.
        spread: Largest ratio of sd d between the halves of the window. Halves of a settled series
            differ by a few per cent, also where its tails are heavy.
        drift: Largest change of r over the window, as a share of its mean: a third of the width of
            the band, so that r could not cross it within three windows.
        restlessness: Largest variance of what U changes within 25 updates, as a share of the
            variance of U. Above, nearly all long chains depart; see ``docs/agreement.md``.
        chain_spread: Largest ratio, either way, of the total variance of the chains to that of
            the noised data. Trainings whose long chains hold show 0.97 to 1.2 on digits; chains
            that have not forgotten a start from noise 1.3 to 2.7.
        least_updates: Fewer updates to be judged than this have no verdict: the bound on fifteen
            autocorrelations is then 0.29, no finer than the effect looked for.
        frozen_share: Longest run of equal values, as a share of the window, that is still alive;
            ten equal values always are. Numbers that live hardly ever repeat.
        collapse_nats: d below minus this many nats a dimension, and falling, is a collapse: where
            the laws of data and chains agree, d is about sqrt(N) nats in all.
    """

    oscillation: float = 0.25
    shared: float = 0.3
    balance: float = 0.2
    adherence: float = 0.5
    spread: float = 3.0
    drift: float = 0.2
    restlessness: float = 0.25
    chain_spread: float = 1.3
    least_updates: int = 100
    frozen_share: float = 0.01
    collapse_nats: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"`{name} > 0` must hold, but got {name}={value!r}")
        if self.adherence >= 1:
            raise ValueError(f"`adherence < 1` must hold, but got adherence={self.adherence!r}")
        if self.chain_spread <= 1:
            rule = "`chain_spread > 1` must hold"
            raise ValueError(f"{rule}, but got chain_spread={self.chain_spread!r}")


@dataclass(frozen=True)
class Divergence:
    """That a training left the finite or the reasonable, collapsed, or stands still.

    Attributes:
        update: Index of the update where it was seen.
        cause: One sentence.
        verdict: ``diverged``, ``collapsed``, or ``unassessed`` for one that stands still.
    """

    update: int
    cause: str
    verdict: Verdict = "diverged"


@dataclass(frozen=True)
class Assessment:
    """Verdict and evidence. Numbers that could not be measured are NaN.

    Attributes:
        verdict: See the table of `assess`.
        oscillation: Type and statistics of the oscillation of d.
        evidence: Everything measured: ``r``, ``r_scaled``, ``r_matched``, ``r_star``, ``r_rms``,
            ``r_floor``, ``r_over_floor``, ``r_1``, ``r_decades``, ``r_drift``,
            ``r_band_adherence``, ``r_band_clearance``, ``r_paper_band_adherence``, ``d_mean``,
            ``d_balance``, ``d_share_positive``, ``d_skew``, ``restlessness``,
            ``chain_spread``, ``clipped_share``. Over the window, but for ``r_1`` (the first
            update), ``r_decades`` (the whole run) and ``chain_spread`` (the end).
        window: First and one past the last update that were looked at.
        reasons: Which requirements fail, for ``nonconvergent``.
        missing: Which evidence is missing, for ``unassessed``; the cause, for ``diverged`` and
            ``collapsed``.
        margins: Signed distance of each requirement to its limit in units of its tolerance,
            within [-3, 1].
        convergence_margin: Least of the margins; None without a verdict.
        convergence_score: Mean over requirements of clip(1/2 + margin/2, 0, 1); None likewise.
        censored: Whether margin and score stand for a training that broke off: one that diverged
            or collapsed.
    """

    verdict: Verdict
    oscillation: Oscillation
    evidence: dict[str, float] = field(repr=False)
    window: tuple[int, int]
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    margins: dict[str, float] = field(default_factory=dict)
    convergence_margin: float | None = None
    convergence_score: float | None = None
    censored: bool = False

    def summary(self) -> str:
        """One line for people."""
        detail = ", ".join(self.reasons or self.missing)
        return f"{self.verdict}: {detail}" if detail else self.verdict
