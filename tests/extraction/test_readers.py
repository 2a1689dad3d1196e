"""Readers: processes that read ahead, and what is left when one of them dies."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dying_readers import KilledWorker, StillbornWorker
from extraction_for_tests import SETTINGS, Colours, files_of, hashes, make_slides

from milbench.errors import MilbenchError
from milbench.extraction.features import Outcome, extract
from milbench.extraction.readers import Readers
from milbench.extraction.slots import Slots, slots_of

pytestmark = pytest.mark.slow  # each starts processes


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    make_slides(folder, "abc")
    return folder


def run(slides: Path, out: Path, workers: int, batch: int = 8) -> Outcome:
    return extract(files_of(slides), Colours(), SETTINGS, out, workers=workers, batch=batch)


def with_workers_of(kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.extraction.features.Readers", partial(Readers, worker_of=kind))


def test_the_number_of_readers_changes_no_byte(slides: Path, tmp_path: Path) -> None:
    outcomes = [run(slides, tmp_path / str(workers), workers) for workers in (0, 1, 3)]
    assert all(set(outcome.done) == {"a", "b", "c"} for outcome in outcomes)
    alone, one, three = (hashes(tmp_path / str(workers)) for workers in (0, 1, 3))
    assert alone == one == three


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slide_that_kills_its_reader_fails_and_the_others_are_done(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    whole = tmp_path / "whole"
    run(slides, whole, 0)
    with_workers_of(KilledWorker, monkeypatch)
    outcome = run(slides, tmp_path / "out", workers)
    assert set(outcome.done) == {"a", "c"}
    assert "was killed, probably because memory ran out (use fewer --workers)" in outcome.failed["b"]
    assert hashes(tmp_path / "out") == {name: each for name, each in hashes(whole).items() if name != "b.h5"}


def test_readers_that_cannot_begin_end_the_command_and_not_in_an_endless_wait(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_workers_of(StillbornWorker, monkeypatch)
    with pytest.raises(MilbenchError, match=r"ended with exit code 7 before it began\. Give --workers 0"):
        run(slides, tmp_path, 2)


def test_slots_for_which_there_is_no_memory_are_refused() -> None:
    with pytest.raises(MilbenchError, match="fewer --workers or a smaller --batch"):
        Slots(2**38, (64, 256, 256, 3))


def test_slots_are_the_same_memory_for_another_reader_and_go_with_their_owner() -> None:
    with Slots(3, (2, 4, 4, 3)) as slots:
        other = slots_of(slots.path, 3, (2, 4, 4, 3))
        other[1] = 7
        assert (slots[1] == 7).all()
        assert not np.any(slots[0])
        path = Path(slots.path)
    assert not path.exists()
