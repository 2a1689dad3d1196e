"""A report on tasks with wild names: no file of it holds a control character, and its CSVs tell the names."""

import csv
import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text
from names_for_tests import WILD
from runs_for_tests import make_run

from milbench.report import write_report
from milbench.report.figures import blank_figure, plain_names, save
from milbench.report.html.payload import to_json
from milbench.report.latex import latex
from milbench.report.tables import markdown
from milbench.store.csv_files import spreadsheet_csv, unguarded
from milbench.visible import is_hidden, visible


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wild")
    run = make_run(folder / "run", models=("amil", "m4"), folds=(0,), tasks=(WILD, "ER+", "control"))
    return write_report([run], folder / "report", draws=50, title=WILD).parent


def test_no_text_of_the_report_holds_a_control_character(report: Path) -> None:
    texts = [path for path in report.rglob("*") if path.suffix in {".tex", ".csv", ".md", ".html"}]
    assert {path.suffix for path in texts} == {".tex", ".csv", ".md", ".html"}
    for path in texts:
        found = {each for each in path.read_bytes().decode() if is_hidden(each) and each != "\n"}
        assert not found, path


def test_the_csv_tells_the_name_and_starts_no_formula(report: Path) -> None:
    with (report / "data" / "tasks.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["task"] for row in csv.DictReader(file)]
    assert {unguarded(cell) for cell in cells} == {WILD, "ER+", "control"}
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_every_writer_shows_the_escapes() -> None:
    assert r"\textbackslash{}x1b]0;owned\textbackslash{}x07" in latex(WILD)
    assert "\n" not in latex("a\n\nb"), "an empty line would end the caption's paragraph"
    assert markdown("a\n# b\x1b") == r"a\n# b\x1b"
    assert to_json({WILD: [WILD]}).count(r"\\x1b]0;owned\\x07\\u202e") == 2


def test_a_figure_draws_the_escapes_in_titles_ticks_and_legends(tmp_path: Path) -> None:
    with plain_names():
        figure = blank_figure((4, 4))
        axes = figure.add_axes((0.3, 0.3, 0.6, 0.6))
        axes.plot([0, 1], label=WILD)
        axes.set_title(WILD)
        axes.set_xticks([0, 1], [WILD, "ER+"])
        axes.legend()
        save(figure, tmp_path / "wild")
    drawn = [text.get_text() for text in figure.findobj(Text) if text.get_text()]
    shown = axes.get_title(), axes.get_xticklabels()[0].get_text(), axes.get_legend().get_texts()[0].get_text()
    assert set(shown) == {visible(WILD)}
    assert not [text for text in drawn if any(map(is_hidden, text))]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_saves_the_cells_that_the_report_writes() -> None:
    texts = [
        "=1+1",
        " @x",
        "\uff1d1",
        "'90s",
        "=a\\b",
        "+0.012",
        "-1e-3",
        "+.5",
        "-1+cmd",
        "ER+",
        'a "b", c',
        "C:\\slides",
    ]
    rows = [{"=task": text, "auroc": -0.25} for text in texts]
    script = files("milbench.report.html").joinpath("assets", "dom.js").read_text(encoding="utf-8")
    command = ["node", "-e", f"{script}; process.stdout.write(toCsv({json.dumps(rows)}))"]
    saved = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert saved == spreadsheet_csv(pd.DataFrame(rows))
