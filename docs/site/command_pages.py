"""Pages of the commands, made from the parser that reads them: `reference/commands/NAME.md`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from page_parts import code, plain, sentence, table

from milbench.commands.cli import parser

FOLDER = "reference/commands"
WIDTH = 100
"""Letters of a line of usage."""


def pages() -> dict[str, str]:
    """One page per command by path, the list of all first."""
    found = dict(_found(parser()))
    rows = [(f"[milbench {name}]({_file(name)})", plain(sentence(_about(each)))) for name, each in found.items()]
    index = f"# Commands\n\n{table(('command', 'what it does'), rows)}\n{_codes()}\n{_toctree(found)}"
    return {f"{FOLDER}.md": index.replace("](", "](commands/")} | {
        f"{FOLDER}/{_file(name)}": "\n".join(_page(name, each)) for name, each in found.items()
    }


def _found(of: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every parser that takes flags, by the words that call it."""
    below = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, of
    for action in below:
        for word, each in action.choices.items():
            yield from _found(each, f"{name} {word}".strip())


def _file(name: str) -> str:
    return f"{name.replace(' ', '_')}.md"


def _about(of: argparse.ArgumentParser) -> str:
    return of.description or ""


def _toctree(found: dict[str, argparse.ArgumentParser]) -> str:
    names = "\n".join(f"/{FOLDER}/{_file(name).removesuffix('.md')}" for name in found)
    return f"```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def _codes() -> str:
    from milbench.commands.command import (
        EXIT_BAD_INPUT,
        EXIT_INTERRUPTED,
        EXIT_OK,
        EXIT_PROBLEMS,
        EXIT_SOME_FAILED,
    )

    rows = [
        (EXIT_OK, "all is done"),
        (EXIT_PROBLEMS, "the command looked for problems and found some"),
        (EXIT_BAD_INPUT, "the input cannot be used; the message says why and what to do"),
        (EXIT_SOME_FAILED, "some trials failed or were skipped; the others are stored"),
        (EXIT_INTERRUPTED, "you stopped it; the same command goes on"),
    ]
    return f"## Exit codes\n\n{table(('code', 'what it means'), rows)}"


def _page(name: str, of: argparse.ArgumentParser) -> Iterator[str]:
    of.formatter_class = _Wide
    yield f"# milbench {name}\n\n{plain(sentence(_about(of)))}\n"
    yield f"```text\n{of.format_usage().removeprefix('usage: ').strip()}\n```\n"
    formatter = of._get_formatter()
    for group in of._action_groups:
        shown = [each for each in group._group_actions if _is_told(each)]
        if shown:
            rows = [(_flags(formatter, each), plain(_help(formatter, each))) for each in shown]
            yield f"## {sentence(group.title or 'Options').rstrip('.')}\n"
            if group.description:
                yield f"{plain(sentence(group.description))}\n"
            yield table(("option", "what it does"), rows)


def _is_told(action: argparse.Action) -> bool:
    return action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _flags(formatter: argparse.HelpFormatter, action: argparse.Action) -> str:
    if not action.option_strings:
        return code(formatter._format_args(action, action.dest))
    value = "" if action.nargs == 0 else " " + formatter._format_args(action, action.dest.upper())
    return ", ".join(code(f"{flag}{value}") for flag in action.option_strings)


def _help(formatter: argparse.HelpFormatter, action: argparse.Action) -> str:
    text = formatter._expand_help(action) if action.help else ""
    return f"{text} One of {', '.join(map(str, action.choices))}." if action.choices and "{" not in text else text


class _Wide(argparse.HelpFormatter):
    """argparse's usage in lines of one length, whatever the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)
