"""Standard output that is full, closed or ASCII ends no command with a traceback."""

import io
import os
import subprocess
from pathlib import Path

import pytest
from commands_for_tests import command, environment

from milbench.commands.output import PLAIN, Output, printing

RUN = (
    "run", "--run", "out", "--models", "mean_pooling", "--folds", "0", "--workers", "1", "--no-tracking",
    "--set", "trainer.epochs=1", "--cohort",
)  # fmt: skip
"""A model of milbench's own: one of a plug-in is tried first, which takes another interpreter."""


def test_signs_that_ascii_lacks_are_written_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with printing() as output:
        output.write("0.9 ± 0.1 … 2 × 3 → Müller ┏━┓")
    assert raw.getvalue() == b"0.9 +/- 0.1 ... 2 x 3 -> M\\xfcller +-+"


def test_other_encodings_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    with printing() as output:
        output.write("".join(PLAIN))
    assert raw.getvalue().decode() == "".join(PLAIN)


def test_after_a_write_that_failed_the_command_goes_on_and_the_reason_is_kept() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    output = Output(Full())
    assert [output.write("one"), output.write("three")] == [3, 5]
    output.flush()
    assert output.failure is not None
    assert output.failure.strerror == "No space left on device"


def test_a_run_whose_reader_has_left_trains_to_its_end(cohort_folder: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        command(*RUN, str(cohort_folder)),
        cwd=tmp_path,
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(list((tmp_path / "out").rglob("trial.json"))) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_run_whose_output_does_not_fit_trains_to_its_end_and_says_so(cohort_folder: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command(*RUN, str(cohort_folder)),
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("milbench: standard output cannot be written (No space left on device)")
    assert "Traceback" not in ended.stderr
    assert len(list((tmp_path / "out").rglob("trial.json"))) == 2


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")


@FULL
@pytest.mark.parametrize(("redirected", "code"), [("2>/dev/full", 2), (">/dev/full 2>/dev/full", 2), ("2>&-", 2)])
def test_a_refused_command_says_so_by_its_exit_code_where_nobody_can_be_told(redirected: str, code: int) -> None:
    script = f'exec "$@" {redirected}'
    asked = command("report", "no-such-run")
    assert subprocess.run(["bash", "-c", script, "_", *asked], env=environment(), check=False).returncode == code


@FULL
def test_a_warning_that_does_not_fit_ends_nothing() -> None:
    code = (
        "from milbench.commands import cli; from milbench.commands.terminal import warn\n"
        "cli._called = lambda words: [warn('one'), warn('two'), 0][-1]\n"
        "raise SystemExit(cli.main([]))\n"
    )
    asked = ["bash", "-c", 'exec "$@" 2>/dev/full', "_", *command()[:1], "-c", code]
    assert subprocess.run(asked, env=environment(), check=False).returncode == 0


@FULL
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_an_answer_of_the_parser_that_does_not_fit_is_an_error_too(flag: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command(flag), env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("milbench: standard output cannot be written")


@pytest.mark.slow
def test_a_run_on_an_ascii_terminal_prints_its_table(cohort_folder: Path, tmp_path: Path) -> None:
    plain = {**environment(), "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command(*RUN, str(cohort_folder)), cwd=tmp_path, env=plain, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "tasks +/- standard deviation" in ended.stdout


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_command_whose_streams_are_closed_does_its_work(tmp_path: Path, closed: str) -> None:
    code = (
        "import os, pathlib; from milbench.commands.output import printing\n"
        "with printing() as output: print('x'); file = open('table', 'w'); os.write(1, b'y'); file.write('whole'); output.flush()\n"
    )
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["bash", "-c", script, "_", *command()[:1], "-c", code], cwd=tmp_path, env=environment(), check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "table").read_text() == "whole"
