"""Whether a study that goes on is the one that was begun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebm_core.errors import ConfigError
from study.spec import from_resolved

# May differ when a study goes on: they change neither what is asked nor what was answered. Its
# ledger lies in the folder, so that another `storage` is another name of the same place.
MAY_CHANGE = ("trials", "resources", "storage")


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two study documents, one line each, but for what may change."""
    stored, lines = _completed(stored), []
    for key in dict.fromkeys([*stored, *wanted]):
        if key in MAY_CHANGE or stored.get(key) == wanted.get(key):
            continue
        old, new = stored.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            for name in dict.fromkeys([*old, *new]):
                if old.get(name) != new.get(name):
                    lines.append(f"{key}.{name}: {old.get(name)!r} there, {new.get(name)!r} here")
        else:
            lines.append(f"{key}: {old!r} there, {new!r} here")
    return lines


def _completed(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stored study with the keys that have come since; what is no study any more stays."""
    try:
        return from_resolved(stored).resolved()
    except ConfigError:
        return stored
