"""`expunge evaluate`: measure how gone a concept is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from expunge.cli.options import as_yaml, dry_run_option, given, model_options, settings_options
from expunge.evaluate import EvaluateSettings

EXAMPLES = """\b
Examples:
  $ expunge evaluate runs/church
  (the verdict in sentences, then the scores)
  evaluation: runs/church/evaluation/evaluation.json
  next: expunge report runs/church/evaluation
\b
  $ expunge evaluate runs/nothing
  error: no patch at runs/nothing
    accepted: a folder with patch.safetensors, or a .safetensors file
"""
