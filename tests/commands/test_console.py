"""The terminal shows names as they are written: nothing in them moves its cursor, colours it or vanishes."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from names_for_tests import NAMES, WILD
from rich.table import Table

from milbench.commands.cli import main
from milbench.commands.console import PlainConsole
from milbench.commands.terminal import facts, line, say, warn
from milbench.runs.progress import Progress
from milbench.visible import is_hidden, visible


def console() -> tuple[PlainConsole, io.StringIO]:
    found = PlainConsole(width=400)
    found.file = io.StringIO()
    return found, found.file


def hidden_in(text: str) -> list[str]:
    return [each for each in text if each != "\n" and is_hidden(each)]


@settings(deadline=None)
@given(NAMES)
def test_no_line_or_table_passes_a_control_character_on(name: str) -> None:
    shown, file = console()
    table = Table(name, title=name)
    table.add_row(name)
    shown.print(table)
    line(shown, name)
    facts(shown, [(name, name)])
    Progress(shown).note(name)
    assert not hidden_in(file.getvalue())


@settings(deadline=None)
@given(NAMES)
def test_a_line_is_printed_whole(name: str) -> None:
    shown, file = console()
    line(shown, name)
    assert file.getvalue() == visible(name) + "\n"


def test_brackets_and_colons_in_a_name_are_no_markup() -> None:
    shown, file = console()
    table = Table("task")
    table.add_row("HER2 [bold] :cat:")
    shown.print(table)
    assert "HER2 [bold] :cat:" in file.getvalue()


def test_plain_lines_and_warnings_show_what_a_name_hides(capsys: pytest.CaptureFixture[str]) -> None:
    say(WILD)
    warn(WILD)
    printed = capsys.readouterr()
    assert printed.out == visible(WILD) + "\n"
    assert printed.err == f"milbench: warning: {visible(WILD)}\n"
    assert not hidden_in(printed.out + printed.err)


def test_an_error_about_a_wild_name_shows_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", str(tmp_path / WILD)]) == 2
    assert main([WILD]) == 2
    error = capsys.readouterr().err
    assert r"\x1b]0;owned\x07\u202eexe.gpj" in error
    assert not hidden_in(error)
