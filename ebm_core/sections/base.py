"""What all parts of a configuration have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Of every whole number that counts something; tensors and databases keep it in 32 bits.
LARGEST = 2**31 - 1

Count = Annotated[int, Field(gt=0, le=LARGEST)]


class Section(BaseModel):
    """An immutable part of a configuration that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        # pydantic would read `true`, which is also how YAML reads `yes` and `on`, as the number 1
        if isinstance(value, bool):
            raise ValueError("must not be true or false")
        return value


def from_word(value: Any) -> Any:
    """``digits`` stands for ``{name: digits}``, ``digits@16`` for that with ``size: 16``."""
    if not isinstance(value, str):
        return value
    name, _, size = value.partition("@")
    return {"name": name, "size": int(size)} if size.isdecimal() else {"name": value}


def kind(value: Any) -> str | None:
    """Which section a value stands for; None where it does not say."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if not isinstance(name, str):
        return None
    return "custom" if ":" in name else name
