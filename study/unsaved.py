"""For what Ray Tune would put into its snapshots."""

from __future__ import annotations

from typing import Any


class Unsaved:
    """Leaves nothing of itself in Tune's snapshots: a study goes on from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}
