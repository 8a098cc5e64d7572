"""The sharpest convergent configurations: how little noise on the data, at what margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ebm_core.document import dump_yaml
from study.space import searched

if TYPE_CHECKING:
    import pandas as pd

    from study.spec import StudySpec


def sharpest_front(frame: pd.DataFrame) -> pd.DataFrame:
    """Convergent configurations that none beats in both sharpness and margin, sharpest first.

    A configuration is convergent where all its repeats are, none of their long runs departs, and
    its margin is the least of theirs.

    Args:
        frame: A table of results.

    Returns:
        The first repeat of each, `convergence_margin` that of the configuration.
    """
    sound = (frame["verdict"] == "convergent") & (frame["long_run"] != "departs")
    sound = sound.groupby(frame["trial"]).transform("all")
    each = frame[sound].sort_values(["trial", "seed"])
    least = each.groupby("trial")["convergence_margin"].transform("min")
    each = each.assign(convergence_margin=least).drop_duplicates("trial")
    each = each.sort_values(
        ["data_epsilon", "convergence_margin"], ascending=[True, False], kind="stable"
    )
    # from sharp to blurred, those that raise the margin over all before them
    before = each["convergence_margin"].cummax().shift(fill_value=float("-inf"))
    return each[each["convergence_margin"] > before].reset_index(drop=True)


def as_yaml(spec: StudySpec, row: Mapping[str, Any]) -> str:
    """A training of the table as a file for ``python -m ebm_core train``."""
    point = {name: spec.parameters[name].snap(row[name]) for name in searched(spec.parameters)}
    return dump_yaml(spec.config(point, int(row["seed"])).model_dump(mode="json"))
