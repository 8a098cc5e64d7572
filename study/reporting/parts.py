"""How trainings are parted to be compared: halves that are alike, and thirds of epsilon."""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.reporting.discrimination import Labels


def choosing_half(frame: pd.DataFrame) -> Labels:
    """The half of the configurations on which rules are chosen, all repeats of one together.

    Configurations are paired with the next in epsilon that turned out alike, and of each pair a
    fixed coin picks one. The parity of the trial number would not do: neighbours in a Sobol
    sequence, and in a grid, lie in opposite halves of an axis.

    Args:
        frame: Trainings that are compared, n rows.

    Returns:
        Shape (n,).
    """
    held = frame["long_run"] == "holds"
    each = pd.DataFrame({"held": held, "epsilon": frame["epsilon"]}).groupby(frame["trial"]).mean()
    order = each.sort_values(["held", "epsilon"], kind="stable").index.to_numpy()
    places = np.arange(order.size)
    coins = np.random.default_rng(0).integers(2, size=order.size // 2 + 1)
    picked = order[places % 2 == coins[places // 2]]
    return frame["trial"].isin(picked).to_numpy(bool)


def thirds(frame: pd.DataFrame) -> tuple[np.ndarray, tuple[float, ...]]:
    """Which third of epsilon each training lies in, by the rank of its configuration.

    Args:
        frame: Trainings that are compared, n rows.

    Returns:
        Shape (n,), from 0, and the smallest epsilon of the second and of the third third. Equal
        epsilon share a third; where that leaves less than three, there are none: all 0, and ().
    """
    ranked = np.sort(frame.drop_duplicates("trial")["epsilon"].to_numpy("float64"))
    if not ranked.size or np.isnan(ranked).any():
        return np.zeros(len(frame), int), ()
    edges = ranked[[ranked.size // 3, 2 * ranked.size // 3]]
    third = np.searchsorted(edges, frame["epsilon"], side="right")
    if np.unique(third).size < 3:
        return np.zeros(len(frame), int), ()
    return third, (float(edges[0]), float(edges[1]))
