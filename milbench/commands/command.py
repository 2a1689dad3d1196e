"""Command: what a file of this room holds, one command per file, and how the command line offers it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Protocol

EXIT_OK, EXIT_PROBLEMS, EXIT_BAD_INPUT, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class Command(Protocol):
    """A module with these three names.

    Attributes
    ----------
    HELP : what the command does, in a line.
    """

    HELP: str

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Put the command's flags on `parser`."""

    def call(self, options: argparse.Namespace) -> int:
        """Exit code of the command, called with its parsed flags."""


def add_commands(parser: argparse.ArgumentParser, commands: Mapping[str, Command], dest: str) -> None:
    """Put every command below `parser`; the parsed flags have its name in `dest`."""
    below = parser.add_subparsers(dest=dest, metavar="COMMAND", required=True)
    for name, command in commands.items():
        text = command.HELP
        command.add_flags(below.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))
