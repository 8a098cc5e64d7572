"""Where r is expected."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ebm_core.errors import ConfigError, Problem
from ebm_core.sections.base import Section

# matched: r / r* of runs whose long chains held; absolute: as printed in appendix A for
# epsilon = 0.015 on 32x32x3 images; scaled: the same over 0.015 sqrt(3072)
BANDS = {"matched": (0.5, 1.4), "scaled": (0.096, 0.180), "absolute": (0.08, 0.15)}


class Band(Section):
    """Where the mean gradient magnitude of convergent learning is expected.

    Attributes:
        low: Lower end; by default the usual one for the unit.
        high: Upper end, the same.
        unit: ``matched``: r / r*, r* being what the score of the data demands; ``scaled``:
            r / (epsilon sqrt(N)); ``absolute``: r itself, in units of x.
    """

    low: float = Field(default=BANDS["matched"][0], ge=0)
    high: float = Field(default=BANDS["matched"][1], gt=0)
    unit: Literal["matched", "scaled", "absolute"] = "matched"

    @model_validator(mode="before")
    @classmethod
    def _ends_of_the_unit(cls, values: Any) -> Any:
        if not isinstance(values, dict) or str(values.get("unit")) not in BANDS:
            return values
        low, high = BANDS[values["unit"]]
        return {"low": low, "high": high, **values}

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.low >= self.high:
            rule = f"`low < high` must hold, got high={self.high!r}"
            raise ConfigError([Problem("low", rule, self.low)])
        return self
