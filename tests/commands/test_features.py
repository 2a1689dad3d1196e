"""`milbench features` as a user gives it: its words, its refusals, and a command that is killed and given again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands_for_tests import Milbench, command, environment
from extraction_for_tests import PLUGIN, hashes, make_slides

from milbench.errors import DataError, UsageError
from milbench.extraction.asked_slides import asked_slides, told_microns
from milbench.extraction.plan import SlideFile

MANY = ("--step", "12")
"""Enough patches for a moment in the middle."""

SMALL = ("--patch", "64", "--mpp", "0.5", "--tissue", "smallest_piece=0.5")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "slides"
    make_slides(folder, "abc")
    (folder.parent / "mine.py").write_text(PLUGIN)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _small_sheets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("milbench.extraction.sheet.LONGEST_EDGE", 100)
        yield


def words(slides: Path, out: Path, *more: str) -> list[str]:
    plugin = str(slides.parent / "mine.py")
    return ["features", str(slides), "--encoder", "six-colours", "--plugin", plugin, "--out", str(out), *SMALL, *more]


def test_slides_become_files_and_the_summary_tells_how_many(
    milbench_here: Milbench, slides: Path, tmp_path: Path
) -> None:
    ended = milbench_here(*words(slides, tmp_path / "out", "--workers", "0"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "six-colours: 6 features per patch" in ended.stdout
    assert "3 done (" in ended.stdout
    assert "\n\n" not in ended.stdout
    again = milbench_here(*words(slides, tmp_path / "out", "--workers", "0"))
    assert "0 done (0 patches), 3 done before" in again.stdout


def test_a_slide_that_fails_gives_exit_code_three_and_its_reason(
    milbench_here: Milbench, slides: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.tiff").write_bytes(b"no slide")
    listing = tmp_path / "list.txt"
    listing.write_text(f"bad.tiff\n\n{slides / 'a.tiff'}\n")
    plugin = str(slides.parent / "mine.py")
    ended = milbench_here(
        "features",
        str(listing),
        "--encoder",
        "six-colours",
        "--plugin",
        plugin,
        "--out",
        "out",
        *SMALL,
        "--workers",
        "0",
    )
    assert ended.returncode == 3
    assert "1 done (" in ended.stdout
    told = [line.strip(" -•") for line in ended.stdout.split("1 failed:")[1].splitlines()]
    assert "bad" in told  # by name at the end, and with its reason when it failed, once
    assert ended.stdout.count("failed: bad:") == ended.stdout.count("bad:") == 1


def test_shards_share_one_folder_and_leave_what_one_command_leaves(
    milbench_here: Milbench, slides: Path, tmp_path: Path
) -> None:
    milbench_here(*words(slides, tmp_path / "whole", "--workers", "0"))
    first = milbench_here(*words(slides, tmp_path / "parts", "--workers", "0", "--shard", "1/2"))
    second = milbench_here(*words(slides, tmp_path / "parts", "--workers", "0", "--shard", "2/2"))
    assert "2 done (" in first.stdout
    assert "1 done (" in second.stdout
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "parts")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--magnification", "20"], "give one of --mpp and --magnification"),
        (["--grid", "slides"], "Did you mean 'slide'?"),
        (["--dtype", "float64"], "unknown dtype 'float64'"),
        (["--tissue", "median=4"], "takes an odd number"),
        (["--patch", "8"], "--patch takes a number from 16 to 4096; got 8"),
        (["--mpp-of", "d=0.25"], "unknown slide of --mpp-of 'd'"),
        (["--mpp-of", "a=25"], "expected microns per pixel from 0.02 to 20, got '25'"),
        (["--workers", "-1"], "--workers takes a number from 0 to 256"),
        (["--shard", "3/2"], "--shard takes i/n"),
        (["--device", "cuda:0,cuda:1"], "one command per GPU"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    milbench_here: Milbench, slides: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    ended = milbench_here(*words(slides, tmp_path / "out", *more))
    assert ended.returncode == 2
    assert message in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_slide_that_a_list_names_and_nobody_has_is_told_with_the_list_and_the_line(
    slides: Path, tmp_path: Path
) -> None:
    listing = tmp_path / "some.txt"
    listing.write_text(f"{slides / 'a.tiff'}\n\nmissing.tiff\nalso.tiff\n")
    with pytest.raises(
        UsageError, match=r"some.txt, line 3: .*missing.tiff does not exist. Of 3 paths in it, 2 are not there"
    ):
        asked_slides([listing], {})


def test_slides_come_from_folders_files_and_lists_each_once(slides: Path, tmp_path: Path) -> None:
    listing = tmp_path / "some.txt"
    listing.write_text(f"\ufeff{slides}\r\n{slides / 'b.tiff'}", encoding="utf-8")
    expected = [SlideFile(name, slides / f"{name}.tiff", 0.3 if name == "b" else None) for name in "abc"]
    assert asked_slides([listing, slides / "a.tiff"], {"b": 0.3}) == expected


def test_two_files_of_one_id_are_refused(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"")
    with pytest.raises(UsageError, match="would both be slide 'a'"):
        asked_slides([slides, tmp_path / "a.svs"], {})


def test_a_place_without_slides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no slides"):
        asked_slides([tmp_path], {})
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match="no slides in"):
        asked_slides([tmp_path / "empty.txt"], {})
    with pytest.raises(UsageError, match="does not exist"):
        asked_slides([tmp_path / "nowhere"], {})


def test_microns_come_from_words_and_tables(tmp_path: Path) -> None:
    table = tmp_path / "mpp.csv"
    table.write_text("slide_id,mpp\nx,0.25\ny=1,0.5\n")
    assert told_microns([str(table), "z=z=0.3"]) == {"x": 0.25, "y=1": 0.5, "z=z": 0.3}
    table.write_text("slide,mpp\nx,0.25\n")
    with pytest.raises(UsageError, match="expected slide_id and mpp"):
        told_microns([str(table)])
    with pytest.raises(UsageError, match="takes slide="):
        told_microns(["0.25"])
    with pytest.raises(UsageError, match=r"--mpp-of tells 0.25 and 0.5 of slide 'x'"):
        told_microns(["x=0.25", "x=0.250", "x=0.5"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2,3\n", "has the columns a, b; expected slide_id and mpp"),
        ("", r"has the columns \(none\)"),
        (f"slide_id,mpp\n{'x' * 200_000},0.5\n", "takes slide=0.25, or a CSV"),
        ("mpp,slide_id\n\n,x\n", "expected microns per pixel from 0.02 to 20, got ''"),
    ],
)
def test_a_table_of_microns_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mpp.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        told_microns([str(tmp_path / "mpp.csv")])


def until(happens: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def started(words: list[str], tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words), cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def whole(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of a command that nobody stopped."""
    out = tmp_path_factory.mktemp("whole")
    ended = subprocess.run(command(*words(slides, out, *MANY)), env=environment(), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_stopped_in_the_middle_goes_on_to_the_same_bytes(
    milbench: Milbench, slides: Path, whole: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = started(words(slides, out, "--workers", "2", *MANY), tmp_path)
    until(lambda: (out / "a.h5").exists())
    os.kill(process.pid, how)
    _, complaint = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "finished slides are kept" in complaint
        assert not list(out.glob(".*"))
    finished = len(list(out.glob("*.h5")))
    assert finished < 3
    again = milbench(*words(slides, out, "--workers", "1", *MANY))
    assert f"{3 - finished} done (" in again.stdout
    assert hashes(out) == hashes(whole)


@pytest.mark.slow
def test_a_full_disk_gives_one_message_and_exit_code_two(slides: Path, tmp_path: Path) -> None:
    limited = ["bash", "-c", 'ulimit -f 300; exec "$@"', "--"]  # files of at most 300 KiB
    ended = subprocess.run(
        [*limited, *command(*words(slides, tmp_path / "out", "--workers", "1", "--batch", "2", "--step", "4", "--dtype", "float32"))],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.count("milbench: cannot write to") == 1
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "out").glob("*.h5"))
