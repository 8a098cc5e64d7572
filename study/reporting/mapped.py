"""The map, and the sharpest settings, as the report shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ebm_core.document import dump_yaml
from study.reporting import drawing, front_figure, map_figure, map_text, symbols
from study.reporting.atlas import Atlas, NoMap, draw_up
from study.reporting.sentences import number
from study.space import searched

if TYPE_CHECKING:
    from study.spec import StudySpec

# Of the sharpest settings, at most so many.
FRONT = 6
# An importance that is drawn, at the least.
_NONE = 0.005


def mapped(spec: StudySpec, frame: pd.DataFrame) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The map in sentences and panels, and as files; where there is none, why not.

    Args:
        spec: The study.
        frame: Its tidy table.
    """
    try:
        atlas = draw_up(frame, spec.parameters)
    except NoMap as reason:
        return {"missing": str(reason), "importances": [], "line": False}, {}
    adam = spec.base.get("optimizer") == "adam" and "optimizer" not in spec.parameters
    found = atlas.found
    several = len(found.axes) > 2
    caption = map_text.slice_caption(found) if several else ""
    scales = dict(atlas.scales)
    content = {
        "missing": "",
        "answer": map_text.answer(found),
        "quality": map_text.quality(found),
        "caption": caption,
        "panels": _panels(atlas, adam),
        "several": several,
        "line": len(found.axes) == 1,
        "words": any(scale.kind == "words" for scale in scales.values()),
        "source": bool(map_figure.recommended(found.axes, scales, adam)),
        "broken": bool(atlas.trained["outcome"].isin(("diverged", "collapsed")).any()),
        "next": [symbols.setting(point, found.axes) for point in atlas.next],
        "first_points": dump_yaml({"first_points": [dict(point) for point in atlas.next]}),
        "importances": _importances(atlas) if len(found.axes) > 1 else [],
    }
    whole = map_figure.whole(atlas, _wrapped(caption), adam)
    return content, {"map.png": drawing.to_png(whole), "map.svg": drawing.to_svg_file(whole)}


def sharpest(spec: StudySpec, frame: pd.DataFrame) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The sharpest convergent settings as a figure and as files to train; empty without any."""
    from study.region.front import as_yaml, sharpest_front

    best = sharpest_front(frame)
    if best.empty:
        return {}, {}
    figure = front_figure.front(frame, best)
    axes = searched(spec.parameters)
    rows: list[dict[str, Any]] = [dict(row) for _, row in best.head(FRONT).iterrows()]
    entries = [
        {
            "trial": row["trial"],
            "setting": symbols.setting(row, dict.fromkeys([*axes, "data_epsilon"])),
            "margin": number(row["convergence_margin"]),
            "long_run": row["long_run"],
            "run": row["mlflow_run_id"],
            "yaml": as_yaml(spec, row),
        }
        for row in rows
    ]
    content = {
        "figure": drawing.to_svg(figure, "Noise on the data against margin"),
        "entries": entries,
        "more": max(0, len(best) - FRONT),
    }
    return content, {"front.png": drawing.to_png(figure), "front.svg": drawing.to_svg_file(figure)}


def _panels(atlas: Atlas, adam: bool) -> list[dict[str, str]]:
    """Each panel on the slice, and averaged over the other axes where there are any."""
    name = "P(convergent) over "
    if not atlas.pairs:
        [axis] = atlas.found.axes
        line = map_figure.along(atlas, adam)
        return [{"slice": drawing.to_svg(line, name + axis), "averaged": ""}]
    found = []
    for first, second in atlas.pairs:
        label = f"{name}{first} and {second}"
        figure = map_figure.panel(atlas, first, second, False, adam)
        panel = {"slice": drawing.to_svg(figure, label), "averaged": ""}
        if len(atlas.found.axes) > 2:
            figure = map_figure.panel(atlas, first, second, True, adam)
            panel["averaged"] = drawing.to_svg(figure, f"{label}, averaged over the others")
        found.append(panel)
    return found


def _importances(atlas: Atlas) -> list[dict[str, Any]]:
    """Shares of each axis, the largest first; empty where nothing differs over the space."""
    found = atlas.found.importances()
    if max(each.total for each in found.values()) < _NONE:
        return []
    order = sorted(found, key=lambda name: -found[name].total)
    return [
        {
            "sign": symbols.sign(name),
            "name": name,
            "main": round(100 * found[name].main),
            "total": round(100 * found[name].total),
        }
        for name in order
    ]


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 150)
