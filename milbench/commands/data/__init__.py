"""`milbench data`: commands that inspect, check, pack, fetch, label, simulate and split cohorts, one file each."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from milbench.commands.command import Command, add_commands
from milbench.commands.data import check, fetch, inspect, labels, pack, simulate, splits

HELP = "inspect, check, pack, fetch, label, simulate and split cohorts"

COMMANDS: Mapping[str, Command] = {
    "inspect": inspect,
    "check": check,
    "pack": pack,
    "splits": splits,
    "fetch": fetch,
    "labels": labels,
    "simulate": simulate,
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put every command of `milbench data` below `parser`."""
    add_commands(parser, COMMANDS, "data_command")


def call(options: argparse.Namespace) -> int:
    """Exit code of the command that was named."""
    return COMMANDS[options.data_command].call(options)
