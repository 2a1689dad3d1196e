"""The command line as tests start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from models_for_tests import THIS_FILE

Milbench = Callable[..., "subprocess.CompletedProcess[str]"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "milbench", *words]


def environment() -> dict[str, str]:
    """The caller's environment, with the tests' folder importable for loky's workers."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", "COLUMNS": "200"}


PLUGIN = str(THIS_FILE)


FAST = ("--no-tracking", "--plugin", PLUGIN, "--set", "trainer.epochs=2", "trainer.lr=0.01")
"""Flags that make a run of seconds."""
