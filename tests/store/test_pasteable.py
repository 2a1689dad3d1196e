"""Pasteable: printed paths work in a shell where the reader stands."""

import shlex
from pathlib import Path

import pytest

from milbench.store.pasteable import pasteable


def test_a_path_inside_the_current_folder_is_relative_and_one_outside_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pasteable(tmp_path / "runs" / "a") == "runs/a"
    assert pasteable(Path("runs/a")) == "runs/a"
    assert pasteable(tmp_path.parent / "other") == str(tmp_path.parent / "other")


def test_a_blank_does_not_part_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shlex.split(pasteable(Path("my runs/a'b"))) == ["my runs/a'b"]
