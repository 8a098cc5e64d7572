"""What MLflow's UI shows of an experiment first: the state of a shared view, stored with it.

MLflow's own table starts with the parent alone, folded, and without a metric or tag in sight.
"""

from __future__ import annotations

from typing import Any

# Columns of the table of trainings, with their widths in pixels: the name and the verdict in full
# beside each other, numbers behind.
_COLUMNS = {
    "attributes.`Run Name`": 290,
    "tags.`verdict`": 105,
    "tags.`oscillation`": 85,
    "tags.`long_run`": 80,
    "tags.`reasons`": 145,
    "metrics.`convergence_score`": 130,
    "metrics.`r_matched`": 95,
    "metrics.`d_balance`": 95,
    "duration": 75,
    "runDateAndNestInfo": 140,
}
# Charts of several trainings, all over the same updates, by the scale of their values.
_CURVES = {
    "d": "linear",
    "r": "log",
    "r_matched": "log",
    "r_scaled": "log",
    "r_band_adherence": "linear",
    "gamma": "log",
}
_SECTION = "curves"


def _chart(name: str, scale: str) -> dict[str, Any]:
    return {
        "uuid": name,
        "type": "LINE",
        "metricSectionId": _SECTION,
        "displayName": name,
        "metricKey": name,
        "selectedMetricKeys": [name],
        "scaleType": scale,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "lineSmoothness": 0,
        "runsCountToCompare": 10,
        "useGlobalLineSmoothing": True,
        "useGlobalXaxisKey": True,
        "deleted": False,
        "isGenerated": False,
    }


SHOWN: dict[str, Any] = {
    "searchFilter": "tags.role = 'training'",
    "orderByKey": "metrics.`convergence_score`",
    "orderByAsc": False,
    "selectedColumns": [name for name in _COLUMNS if name.startswith(("tags.", "metrics."))],
    "columnOrder": list(_COLUMNS),
    "columnWidths": _COLUMNS,
    "compareRunSections": [
        {
            "uuid": _SECTION,
            "name": "Over the updates",
            "display": True,
            "isReordered": False,
            "deleted": False,
            "isGenerated": False,
        }
    ],
    "compareRunCharts": [_chart(name, scale) for name, scale in _CURVES.items()],
}
