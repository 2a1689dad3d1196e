"""A run's files: whole or as they were."""

import errno
from pathlib import Path

import pytest

from milbench.errors import StoreError
from milbench.store.files import replacing_folder, write_atomically, writing


def test_an_interrupted_atomic_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(StoreError), writing(tmp_path):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_folder_that_is_filled_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    final = tmp_path / "below" / "final"
    for name in ("old", "new"):
        with replacing_folder(final, tmp_path / "temporary") as folder:
            (folder / name).touch()
    assert [path.name for path in final.iterdir()] == ["new"]
    assert not (tmp_path / "temporary").exists()


def test_a_folder_that_is_not_filled_to_the_end_changes_nothing(tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").touch()
    with pytest.raises(KeyboardInterrupt), replacing_folder(final, tmp_path / "temporary"):
        raise KeyboardInterrupt
    assert [path.name for path in final.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_stands_in_the_way_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    message = r"File exists \(.*locks\)\. Something of another kind stands in its place\. Move it away"
    with pytest.raises(StoreError, match=message), writing(tmp_path):
        (tmp_path / "locks").mkdir()
