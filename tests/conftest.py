"""Tests run side by side: each process keeps to one thread, and draws the same on any machine."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
