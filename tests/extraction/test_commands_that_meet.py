"""Commands that work in one folder at once: slides are shared, and claims of the dead hold nobody up."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
from extraction_for_tests import SETTINGS, Colours, Notes, files_of, hashes, run

from milbench.extraction.features import Outcome, Watch, extract
from milbench.store.claims import claimed

pytestmark = pytest.mark.usefixtures("small_sheets")


class Slow(Watch):
    """Takes its time over each slide, so that another command meets it there."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.has_begun = Event()

    def planned(self, slide_id: str, patches: int) -> None:
        self.has_begun.set()
        time.sleep(0.2)

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_two_commands_in_one_folder_share_the_slides_and_say_so(
    extracted: tuple[Path, Outcome], pixels: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.extraction.features.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("milbench.extraction.features.SLIDES_AHEAD", 1)
    first, second = Slow(), Slow()
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(run, pixels[0], tmp_path, watch=first)
        assert first.has_begun.wait(60)
        two = run(pixels[0], tmp_path, watch=second)
        done, other = one.result(60), two
    assert sorted([*done.done, *other.done]) == ["a", "b"], "each is made once"
    assert sorted([*done.done, *done.by_others, *done.skipped]) == ["a", "b"]
    assert sorted([*other.done, *other.by_others, *other.skipped]) == ["a", "b"]
    assert second.texts == [
        f"another command works in {tmp_path} (process {os.getpid()} on {socket.gethostname()}, since {_began()}): both share "
        "the slides, and make each once"
    ]
    assert hashes(tmp_path) == hashes(extracted[0])
    assert not (tmp_path / "claims").exists()


def _began() -> str:
    began = time.localtime(psutil.Process().create_time())
    return time.strftime("%H:%M" if began[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", began)


def test_a_slide_that_a_dead_process_held_is_made_and_its_claim_goes(again: tuple[Path, Path]) -> None:
    slides, out = again
    before = hashes(out)
    (out / "b.h5").unlink()
    with claimed(out / "claims", "b"):
        dead = {**json.loads((out / "claims" / "b.json").read_text()), "born": 1.0}
    (out / "claims" / "b.json").write_text(json.dumps(dead))
    assert set(run(slides, out).done) == {"b"}
    assert hashes(out) == before
    assert not (out / "claims").exists()


def test_a_slide_of_another_machine_that_falls_silent_is_taken_over(
    again: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    slides, out = again
    (out / "b.h5").unlink()
    with claimed(out / "claims", "b"):
        other = {**json.loads((out / "claims" / "b.json").read_text()), "host": "gpu7"}
    path = out / "claims" / "b.json"
    path.write_text(json.dumps(other))
    waits: list[float] = []

    def falls_silent(seconds: float) -> None:
        waits.append(seconds)
        os.utime(path, (1.0, 1.0))

    monkeypatch.setattr("milbench.extraction.features.sleep", falls_silent)
    notes = Notes()
    assert set(run(slides, out, watch=notes).done) == {"b"}
    assert (len(waits), len(notes.texts)) == (1, 1)
    assert "on gpu7, since" in notes.texts[0]


def test_shards_side_by_side_say_nothing_of_each_other(pixels: tuple[Path, Any], tmp_path: Path) -> None:
    first, second = Slow(), Slow()
    files = files_of(pixels[0])
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(extract, [file], Colours(), SETTINGS, tmp_path, workers=0, batch=8, watch=watch)
            for file, watch in zip(files, (first, second), strict=True)
        ]
        outcomes = [job.result(60) for job in jobs]
    assert [(set(outcome.done), outcome.by_others) for outcome in outcomes] == [({"a"}, ()), ({"b"}, ())]
    assert first.texts == second.texts == []
