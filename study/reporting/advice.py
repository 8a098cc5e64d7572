"""What each verdict and reason means, and what to try next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """A verdict or reason, explained.

    Attributes:
        meaning: What was seen, and what it says of the training.
        next: What to try, the most promising first.
    """

    meaning: str
    next: str


# In the order of a table: what is well, what looks well, what fails, what says nothing.
ADVICE: dict[str, Advice] = {
    "convergent": Advice(
        "r is where the score of the data asks for it and stays there, d is balanced about 0 and"
        " does not swing back and forth.",
        "Go on to a smaller data_epsilon, for a sharper model; repeat with other seeds.",
    ),
    "indicators_disagree": Advice(
        "All indicators look convergent, but long chains leave the region of the short-run"
        " samples: these are not the model's steady state.",
        "Trust the long run. Raise langevin_steps or epsilon, anneal to a lower gamma_0, or train"
        " longer at the final rate.",
    ),
    "r_below_band": Advice(
        "The gradient is weaker than the data demand: chains do not mix within the budget, and the"
        " energy has stayed too flat.",
        "Raise epsilon at the same eps_data_ratio, raise langevin_steps, or train longer. Where"
        " r_1 is far too low already, raise init_scale.",
    ),
    "r_above_band": Advice(
        "The gradient is steeper than the data demand: the finest structure is narrower than"
        " Langevin steps of this epsilon resolve, or the energy has outgrown its chains.",
        "Raise eps_data_ratio (never under 1), lower epsilon, or lower gamma_0. With d far from 0"
        " as well, raise langevin_steps first.",
    ),
    "d_unbalanced": Advice(
        "Data and chains differ in mean energy: the energy is still contracting (d > 0) or"
        " expanding (d < 0) round them.",
        "Train longer at the final rate, or anneal more slowly so that the rate does not fall"
        " before balance is reached; then raise langevin_steps or epsilon.",
    ),
    "strong_oscillation": Advice(
        "d keeps overshooting: contraction follows expansion within a few updates, and r shares"
        " it. The model changes faster than its chains can follow.",
        "Lower gamma_0, or use SGD instead of Adam; anneal to a lower final rate.",
    ),
    "model_restless": Advice(
        "Within 25 updates learning redraws much of the energy of the very same states: chains"
        " cannot follow, and long chains of any one model are expected to leave them.",
        "Anneal to a lower gamma_0, or raise batch_size; then raise epsilon or langevin_steps.",
    ),
    "spread_unmatched": Advice(
        "The chains are spread more widely, or more narrowly, than the noised data: they have not"
        " forgotten their start, lie in directions the network does not see, or miss some data.",
        "Raise epsilon or langevin_steps, train longer, or use a smaller bank, so that chains"
        " forget their start; let the first layer be as wide as the data have dimensions.",
    ),
    "r_drifting": Advice(
        "r still changes over the assessed updates: training has not settled.",
        "Train longer after annealing, or anneal to a lower gamma_0.",
    ),
    "diverged": Advice(
        "Something was not finite, or states left any reasonable range.",
        "Lower gamma_0 (with annealing: its start); then lower epsilon or raise eps_data_ratio.",
    ),
    "collapsed": Advice(
        "d runs to minus infinity: data are told from chains by directions in which they vary less"
        " than Langevin noise can.",
        "Use an eps_data_ratio over 1, typically 2; then lower gamma_0.",
    ),
    "unassessed": Advice(
        "Evidence is missing: too few updates after annealing or burn-in, or a series that stands"
        " still.",
        "Train longer or anneal shorter; for burn-in use a smaller bank or a larger batch. A"
        " series that stands still means that gamma_0 or the gradient is 0.",
    ),
    "failed": Advice(
        "The training did not run to its end, for a cause outside of learning.",
        "Mend the cause that is named, then begin anew with --fresh; the others stay as they are.",
    ),
}


def next_steps(reasons: Iterable[str]) -> dict[str, Advice]:
    """What these verdicts and reasons mean and what to try, in the order of `ADVICE`.

    Raises:
        ValueError: If one of them is not known.
    """
    wanted = set(reasons)
    if unknown := sorted(wanted - set(ADVICE)):
        raise ValueError(f"reasons must be of {', '.join(ADVICE)}, got {', '.join(unknown)}")
    return {name: advice for name, advice in ADVICE.items() if name in wanted}
