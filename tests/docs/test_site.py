"""The site: every page stands behind one door, pages are made of what the code says, and a broken link stops the build."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import command_pages
import docstrings
import key_pages
import links
import message_pages
import metric_pages
import pytest
from doors import doors, pages_of_doors
from page_parts import plain, table
from places import ROOT

from milbench.commands.cli import COMMANDS, parser
from milbench.runs.config import EngineConfig
from milbench.stats.kind_metrics import COLUMNS

MADE_OF_A_NOTEBOOK = "docs/notebook.md"


def test_every_page_of_the_docs_stands_behind_one_door() -> None:
    pages = [page for door in doors() for page in door.pages]
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")} | {MADE_OF_A_NOTEBOOK}
    behind = {page for page in pages if page.startswith("docs/")}
    assert sorted(there - behind) == [], "list these pages in docs/site/doors.yaml"
    assert sorted(behind - there) == [], "docs/site/doors.yaml lists pages that are not there"
    assert len(pages) == len(set(pages)), "docs/site/doors.yaml lists a page twice"


def test_the_four_doors_are_those_of_the_navigation() -> None:
    made = {
        "commands": ["a.md"],
        "keys": ["b.md"],
        "messages": ["c.md"],
        "formats": ["d.md"],
        "models": ["e.md"],
        "metrics": ["f.md"],
        "api": ["g.md"],
    }
    assert list(pages_of_doors(made)) == ["start.md", "guides.md", "understand.md", "reference.md"]


def test_every_command_and_every_flag_has_its_line() -> None:
    pages = command_pages.pages()
    assert {name for name in COMMANDS if name != "data"} <= {Path(path).stem for path in pages}
    of = next(each for each in parser()._actions if each.dest == "command").choices["run"]
    flags = [flag for action in of._actions for flag in action.option_strings if flag not in ("-h", "--help")]
    assert flags
    assert [flag for flag in flags if f"`{flag}" not in pages["reference/commands/run.md"]] == []


def test_the_pages_do_not_depend_on_the_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = command_pages.pages()
    monkeypatch.setenv("COLUMNS", "40")
    assert command_pages.pages() == wide


def test_every_key_has_its_default_and_a_meaning() -> None:
    (page,) = key_pages.pages().values()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    assert {f"engine.{each.name}" for each in fields(EngineConfig)} <= set(rows)
    assert "`60.0`" in rows["engine.checkpoint_seconds"]
    assert [key for key, row in rows.items() if not row.split("|")[3].strip()] == []


def test_every_column_of_a_metric_names_the_function_that_computes_it() -> None:
    (page,) = metric_pages.pages().values()
    for columns in COLUMNS.values():
        assert [name for name in columns if f"| `{name}` |" not in page] == []
    assert "{func}`~milbench.metrics.quadratic_kappa`" in page


def test_messages_are_those_of_the_code_with_dots_for_values(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text(
        'raise UsageError(f"{path} holds no slide. " "Name another folder.")\nraise DataError(text)\nraise ValueError("not one of ours, and long")\n'
    )
    found = list(message_pages.messages(tmp_path))
    assert [tuple(each) for each in found] == [("UsageError", "room", "… holds no slide. Name another folder.")]


def test_the_entries_of_a_docstring_are_found_by_name_and_moved_below_it() -> None:
    lines = [
        "One.",
        "",
        "Parameters",
        "----------",
        "a, b : two",
        "    of them.",
        "c : last.",
        "",
        "Raises",
        "------",
        "E : odd.",
    ]

    def documented() -> None: ...

    documented.__doc__ = "\n".join(lines)
    assert docstrings.entries(documented, "Parameters") == {"a": "two of them.", "b": "two of them.", "c": "last."}
    assert docstrings.with_text_below(lines)[4:8] == ["a, b", "    two", "    of them.", "c"]


def test_marks_of_markdown_are_harmless_outside_of_code_and_a_table_is_never_empty() -> None:
    assert plain("a_b `c_d` [e] `f") == r"a\_b `c_d` \[e\] \`f"
    assert table(("x",), [("a|b",)]) == "| x |\n| --- |\n| a\\|b |\n"
    with pytest.raises(ValueError, match="has no rows"):
        table(("x",), [])


def test_a_link_to_a_missing_page_a_missing_anchor_and_a_script_of_another_host_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example/x.js"></script><img src="none.png"><a href="b.html#here"></a><a href="b.html#gone"></a>'
        '<a href="c.html"></a><a href="https://example.org/"></a><a href="#nowhere"></a>'
    )
    assert links.broken(tmp_path) == [
        "a.html: loads https://cdn.example/x.js, and is incomplete without a network",
        "a.html: loads none.png, which is not there",
        "a.html: b.html#gone leads nowhere",
        "a.html: c.html leads nowhere",
        "a.html: #nowhere leads nowhere",
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_is_built_without_a_warning() -> None:
    pytest.importorskip("sphinx", reason="the extra docs brings Sphinx")
    done = subprocess.run([sys.executable, "docs/site/build.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "every link leads somewhere" in done.stdout
