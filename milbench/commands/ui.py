"""`milbench ui`: the MLflow UI, on this machine only."""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.terminal import say

HELP = "compare finished runs in the MLflow UI"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which database."""
    parser.add_argument("--uri", help="MLflow database or server (default: sqlite database in runs/)")
    parser.add_argument("--port", type=int, default=5000, help="port on the loopback address (default 5000)")


def call(options: argparse.Namespace) -> int:
    """Exit code of the UI's server."""
    import subprocess

    from milbench.tracking.client import default_uri
    from milbench.tracking.ui import ui_command, ui_links

    uri = options.uri or default_uri(Path("runs"))
    for text in ui_links(uri, options.port):
        say(text)
    return subprocess.call(ui_command(uri, options.port))  # noqa: S603 - our own command, loopback only
