"""Skips what needs the packages of the extra `second`, and says which."""

from __future__ import annotations

import pytest

from expunge.metrics.imagenet import second_missing

needs_second = pytest.mark.skipif(bool(second_missing()), reason=second_missing() or "installed")
