"""The table of verdicts is a CSV file, and the shipped one is read without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from milbench.probes.catalogue import PROBES
from milbench.probes.table import COLUMNS, read_rows, results_of, row_of, shipped_rows, write_rows
from milbench.probes.verdict import Score, verdict_of
from milbench.registry import load_models


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    verdict = verdict_of(PROBES["count"], [Score(0.7, 1.0, 1e-3, 1.25), Score(0.8, 1.0, 1e-3, 1.25)])
    row = row_of("amil", 'A "title", with a comma', 1, verdict)
    write_rows([row], tmp_path / "rows.csv")
    assert read_rows((tmp_path / "rows.csv").read_text()) == [row]
    assert (row["auroc"], row["low"], row["seconds"], row["verdict"]) == ("0.7500", "0.7000", "2.5", "fails")


def test_the_shipped_table_holds_registered_models_and_tests_of_today() -> None:
    rows, models = shipped_rows(), load_models()
    assert rows
    assert set(rows[0]) == set(COLUMNS)
    for row in rows:
        assert row["model"] in models
        assert row["title"] == PROBES[row["test"]].title
        assert row["verdict"] in {"pass", "fails", "cheats", "unsure"}
        assert int(row["version"]) == models[row["model"]].info.version
    assert len({(row["model"], row["test"]) for row in rows}) == len(rows)


def test_the_shipped_sentences_are_those_of_the_tests() -> None:
    for row in shipped_rows():
        probe = PROBES[row["test"]]
        own = {"pass": probe.yes, "cheats": probe.cheats, "fails": probe.no}.get(row["verdict"])
        assert own is None or row["sentence"] == own or row["sentence"].startswith("It could not be trained")


def test_a_page_about_a_model_reads_its_results_and_an_unknown_model_has_none() -> None:
    assert results_of("nobody") == []
    of_amil = results_of("amil")
    assert of_amil
    assert of_amil == [
        (row["title"], row["verdict"], row["sentence"]) for row in shipped_rows() if row["model"] == "amil"
    ]


@pytest.mark.parametrize("module", ["table", "catalogue", "verdict"])
def test_results_are_read_without_torch(module: str) -> None:
    code = f"import sys, milbench.probes.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
