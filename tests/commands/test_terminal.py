"""Tables on a terminal: folded, never cut."""

from io import StringIO

import pytest
from rich.console import Console

from milbench.commands.terminal import grid, watcher

NAMES = ["MMoE+MP-AMIL", "a model of a long name"]
COHORTS = ["TCGA-BRCA", "TCGA-GBMLGG", "TCGA-LUAD", "TCGA-CRC", "TCGA-UCEC"]


def printed(width: int) -> list[str]:
    text = StringIO()
    rows = [[name, *["0.812 ± 0.013"] * len(COHORTS)] for name in NAMES]
    grid(Console(file=text, width=width), ["model", *COHORTS], rows, names=("model",), right=COHORTS)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_is_no_wider_than_the_terminal_and_nothing_is_cut(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    cells = [line.split("│")[1:-1] for line in lines if line.startswith("│")]
    whole = "".join("".join(line) for line in zip(*cells, strict=True) for line in line)
    assert whole.replace(" ", "").count("±") == len(NAMES) * len(COHORTS)


def test_at_80_columns_names_stand_in_one_line() -> None:
    text = "\n".join(printed(80))
    assert all(name in text for name in NAMES)


def test_a_name_in_brackets_is_no_markup() -> None:
    text = StringIO()
    grid(Console(file=text, width=80), ["model"], [["[red]amil[/red]"]], names=("model",))
    assert "[red]amil[/red]" in text.getvalue()


def test_a_bar_over_slides_with_sizes_says_bytes_per_second() -> None:
    console = Console(force_terminal=True, width=100, file=StringIO())
    sizes = {"a": 3_000_000, "b": 1_000_000}
    assert list(watcher(console)(sizes, "packing", sizes.__getitem__)) == ["a", "b"]
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "4.0/4.0 MB" in shown
    assert "B/s" in shown
    assert list(watcher(Console(force_terminal=True, file=StringIO()))(["a", "a"], "reading")) == ["a", "a"]
