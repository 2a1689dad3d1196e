"""Tables: the same numbers in LaTeX, Markdown and CSV, whatever the names are."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from milbench.report.tables import WIDEST, Cell, Row, Table, to_csv, to_latex, to_markdown

NASTY = ("A_B & 5%", "{x}^2 #1 ~ \\y $", "Ki-67 → 20%", "μ-opioid", "Ångström café", "Żółć", "肺腺癌", "ген", "a|b<c>")


def table(n_columns: int = 2, names: tuple[str, ...] = ("a", "b")) -> Table:
    cells = tuple(Cell("0.900", "0.85–0.95", "best") for _ in range(n_columns))
    rows = tuple(Row(name, cells, rule=index > 0) for index, name in enumerate(names))
    columns = tuple(f"t_{index}" for index in range(n_columns))
    return Table("toy", "A caption: 5 % & more.", "Method", columns, rows, pd.DataFrame({"auroc": [0.1 + 0.2, None]}))


def test_best_is_bold_and_second_underlined_in_both_languages() -> None:
    styled = Table("t", "c", "Method", ("X",), (Row("a", (Cell("0.9", "", "best"),)), Row("b", (Cell("0.8", "", "second"),))), pd.DataFrame())  # fmt: skip
    assert r"a & \textbf{0.9} \\" in to_latex(styled)
    assert r"b & \underline{0.8} \\" in to_latex(styled)
    assert "| a | **0.9** |" in to_markdown(styled)
    assert "| b | <u>0.8</u> |" in to_markdown(styled)


def test_what_stands_below_a_number_gets_a_smaller_line_of_its_own() -> None:
    assert r" & {\tiny 0.85--0.95} & {\tiny 0.85--0.95} \\[1pt]" in to_latex(table())
    assert "**0.900**<br><sub>0.85–0.95</sub>" in to_markdown(table())


def test_the_csv_is_in_full_precision_and_empty_where_there_is_no_number() -> None:
    assert to_csv(table()) == 'auroc\n0.30000000000000004\n""\n'


@pytest.mark.parametrize(("columns", "parts"), [(1, 1), (WIDEST, 1), (WIDEST + 1, 2), (100, 10)])
def test_a_table_too_wide_for_a_page_comes_in_parts(columns: int, parts: int) -> None:
    text = to_latex(table(columns))
    assert text.count(r"\begin{tabular}") == parts
    headers = [
        part.strip()
        for line in text.splitlines()
        if line.startswith("Method &")
        for part in line.rstrip("\\ ").split("&")[1:]
    ]
    assert headers == [rf"t\_{index}" for index in range(columns)]
    assert (f"Part {parts} of {parts}." in text) is (parts > 1)


def test_markup_in_names_stays_text_in_markdown() -> None:
    assert r"| a\|b&lt;c&gt; |" in to_markdown(table(1, ("a|b<c>",)))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_nasty_names_and_a_hundred_columns(tmp_path: Path) -> None:
    document = "\n".join([
        r"\documentclass[a4paper,landscape]{article}", r"\usepackage[margin=1.5cm]{geometry}", r"\usepackage[utf8]{inputenc}",
        r"\usepackage{booktabs}", r"\begin{document}", to_latex(table(100, NASTY)), r"\end{document}",
    ])  # fmt: skip
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "t.log").read_text(errors="replace")
