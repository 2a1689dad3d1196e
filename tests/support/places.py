"""Where tests find what lies outside of them."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""

SHARED = Path(os.environ.get("MILBENCH_SHARED", ROOT.parent / "shared"))
"""Real data and recorded outputs beside the checkout; tests that need them carry the marker `realdata`."""

GOLDEN = ROOT / "tests" / "golden"
"""Outputs, losses and gradients recorded from official code."""
