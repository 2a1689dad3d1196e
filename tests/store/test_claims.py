"""Claims: one process holds a key at a time, a dead one holds nothing, and everyone can read who it is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from milbench.errors import UsageError
from milbench.store.claims import SILENT_SECONDS, Claim, alone, claimed, let_go, living, read_claim, take


def write(folder: Path, key: str, **changed: Any) -> Path:
    """A claim of this process, with some of its facts changed."""
    with claimed(folder, key):
        facts = json.loads((folder / f"{key}.json").read_text())
    path = folder / f"{key}.json"
    path.write_text(json.dumps({**facts, **changed}))
    return path


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_key_that_is_taken_stays_with_its_process_until_it_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    assert take(folder, "s1") is None
    holder = take(folder, "s1")
    assert holder is not None
    assert (holder.key, holder.host, holder.pid) == ("s1", socket.gethostname(), os.getpid())
    assert take(folder, "s2") is None
    let_go(folder, "s1")
    assert take(folder, "s1") is None


def test_of_many_that_take_a_key_at_once_one_gets_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        holders = list(pool.map(lambda _: take(tmp_path, "s1"), range(64)))
    assert holders.count(None) == 1


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    write(tmp_path, "s1", pid=dead_process())
    assert take(tmp_path, "s1") is None
    found = read_claim(tmp_path, "s1")
    assert found is not None
    assert found.pid == os.getpid()


def test_a_number_that_the_system_has_given_to_another_process_holds_nothing(tmp_path: Path) -> None:
    write(tmp_path, "s1", born=1.0)
    assert take(tmp_path, "s1") is None


def test_a_process_of_another_machine_holds_its_key_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    path = write(tmp_path, "s1", host="gpu7", pid=1)
    holder = take(tmp_path, "s1")
    assert holder is not None
    assert holder.host == "gpu7"
    long_ago = time.time() - SILENT_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert take(tmp_path, "s1") is None


def test_a_damaged_claim_holds_nothing_once_nobody_can_be_writing_it(tmp_path: Path) -> None:
    path = tmp_path / "s1.json"
    path.write_text("{")
    long_ago = time.time() - SILENT_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert take(tmp_path, "s1") is None
    assert read_claim(tmp_path, "s1") is not None


def test_a_folder_that_cannot_be_written_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("a file in the place of the folder")
    assert take(tmp_path / "claims", "s1") is None


def test_who_is_alone_keeps_others_out_with_a_sentence_that_names_it_and_leaves_no_trace(tmp_path: Path) -> None:
    with alone(tmp_path, "data pack"), pytest.raises(UsageError) as error, alone(tmp_path, "data pack"):
        pass
    assert f"another `milbench data pack` is writing {tmp_path} (process {os.getpid()} on" in str(error.value)
    assert "Wait until it has ended" in str(error.value)
    assert list(tmp_path.iterdir()) == []
    with alone(tmp_path, "data pack"):
        pass


def test_the_living_are_told_in_the_order_in_which_their_processes_began(tmp_path: Path) -> None:
    write(tmp_path, "b", host="b", born=2.0)
    write(tmp_path, "a", host="a", born=3.0)
    write(tmp_path, "dead", pid=dead_process())
    assert [claim.host for claim in living(tmp_path)] == ["b", "a"]
    assert living(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("born", "clock"),
    [
        (time.mktime((2026, 3, 1, 14, 2, 0, 0, 0, -1)), "2026-03-01 14:02"),
        (1e300, "2106-"),  # what a damaged file may say
    ],
)
def test_a_claim_reads_as_process_host_and_since_when(born: float, clock: str) -> None:
    assert str(Claim("s1", "gpu7", 12, born, born)).startswith(f"process 12 on gpu7, since {clock}")


def test_a_process_of_today_is_told_with_the_hour_alone() -> None:
    now = time.time()
    assert (
        str(Claim("s1", "gpu7", 12, now, now))
        == f"process 12 on gpu7, since {time.strftime('%H:%M', time.localtime(now))}"
    )
