"""`milbench ui`: the MLflow UI, on this machine only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from milbench.commands.terminal import say

HELP = "compare finished runs in the MLflow UI"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which database."""
    parser.add_argument("--uri", help="MLflow database or server (default: sqlite database in runs/)")
    parser.add_argument("--port", type=int, default=5000, help="port on the loopback address (default 5000)")


def call(options: argparse.Namespace) -> int:
    """Exit code of the UI's server."""
    from milbench.tracking.client import default_uri
    from milbench.tracking.ui import serve, ui_links

    uri = options.uri or default_uri(Path("runs"))
    return serve(uri, options.port, ui_links(uri, options.port), _say_at_once)


def _say_at_once(text: str) -> None:
    """Print a line that is read while the server runs, into a pipe too."""
    say(text)
    sys.stdout.flush()
