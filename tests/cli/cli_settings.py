"""What the tests of the command line share."""

from __future__ import annotations

QUICK = ["--steps", "2", "--set", "source.trajectories=2", "--set", "source.grid=3"]
"""Flags of an edit that takes no time."""
