"""`milbench check`: a table per model, exit code 0 whatever the verdicts, one message for bad input."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from places import ROOT

from milbench.commands.cli import main
from milbench.probes import run
from milbench.probes.catalogue import PROBES

SUPPORT = ROOT / "tests" / "support"
REFERENCES = str(SUPPORT / "probe_references.py")


@pytest.fixture(autouse=True)
def _small_and_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests with few bags and epochs, and a wide terminal."""
    tiny = {name: replace(probe, sizes=(16, 8, 16), epochs=2) for name, probe in PROBES.items()}
    monkeypatch.setattr(run, "PROBES", tiny)
    monkeypatch.setenv("COLUMNS", "200")


def check(*words: str) -> int:
    return main(["check", *words, "--workers", "1", "--seeds", "1"])


def test_the_table_says_what_was_reduced_and_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("amil", "--tests", "order", "tasks") == 0
    printed = capsys.readouterr().out
    assert "contract: kept" in printed
    assert "hidden=32, attention=16" in printed
    assert "left out: tasks" in printed
    assert "Order of the file" in printed


def test_rows_go_to_the_file_and_a_model_that_raises_fails(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    words = ("--plugin", REFERENCES, "--tests", "order", "noise", "--out", str(out))
    assert check("highest", "raises_in_training", *words) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["model"], row["test"]) for row in rows] == [
        (model, test) for model in ("highest", "raises_in_training") for test in ("order", "noise")
    ]
    assert "too large for me" in rows[-1]["sentence"]


def test_a_model_that_breaks_the_contract_is_not_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("normalises", "--plugin", str(SUPPORT / "rule_breakers.py"), "--tests", "order") == 0
    printed = capsys.readouterr().out
    assert "buffer" in printed
    assert "It is not trained" in printed
    assert "Order of the file" not in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("amill",), "amil"),
        (("amil", "--tests", "ordre"), "order"),
        (("amil", "--plugin", "nowhere.py"), "nowhere.py"),
        (("amil", "--seeds", "0"), "--seeds is 0"),
        (("amil", "--workers", "0"), "--workers is 0"),
        (("amil", "--out", "no/such/folder/rows.csv"), "no/such/folder"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--workers", "1", *words]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert "Traceback" not in complaint
    assert len(complaint.strip().splitlines()) == 1


def test_a_plugin_that_raises_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text("raise RuntimeError('half a file')")
    assert main(["check", "amil", "--plugin", str(plugin)]) == 2
    assert "half a file" in capsys.readouterr().err
