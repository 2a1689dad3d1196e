"""`milbench data ...`: flags and one call a command. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse

COMMANDS: dict[str, str] = {}
"""What each command does, in a line; `_add_<name>_flags` and `_<name>` below belong to it."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Put every command of `milbench data` below `parser`."""
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=globals()[f"_{name}"])
        globals()[f"_add_{name}_flags"](command)


# ---- inspect, check, pack ------------------------------------------------------------------------


# ---- fetch, labels -------------------------------------------------------------------------------


# ---- simulate ------------------------------------------------------------------------------------


# ---- splits --------------------------------------------------------------------------------------
