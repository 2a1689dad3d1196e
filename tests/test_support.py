"""What tests share goes on after one of them has failed in the middle of it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from made_once import made_once
from ready_process import ReadyProcess

LATE_THEN_QUICK = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    time.sleep(asked["wait"])
    print(asked["code"], flush=True)
"""


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(*_: object, **__: object) -> "subprocess.Popen[str]":
        return popen([sys.executable, "-c", LATE_THEN_QUICK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def time_is_up(*_: object) -> None:
        raise TimeoutError

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", process)
    ready = ReadyProcess({})
    before = signal.signal(signal.SIGUSR1, time_is_up)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        with pytest.raises(TimeoutError):
            ready._answer({"code": 3, "wait": 2})
        assert ready._answer({"code": 4, "wait": 0}) == 4
    finally:
        signal.signal(signal.SIGUSR1, before)
        ready.close()


def test_a_folder_whose_making_failed_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("a full disk")

    with pytest.raises(OSError, match="full disk"):
        made_once(tmp_path_factory, "made-twice", fails)
    made = made_once(tmp_path_factory, "made-twice", lambda folder: (folder / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]
