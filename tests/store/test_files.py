"""A run's files: whole or as they were."""

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from milbench.errors import StoreError
from milbench.store.files import refuse_to_replace, replacing_file, replacing_folder, write_atomically, writing


def test_an_interrupted_atomic_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(StoreError), writing(tmp_path):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_what_takes_a_place_is_on_the_disk_before_and_the_renaming_of_a_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could leave the new name with nothing behind it."""
    done: list[str] = []
    rename = Path.replace

    def synced(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"-> {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_atomically(tmp_path / "a.json", b"new")
    assert done[0].startswith(".a.json")
    assert done[1:] == ["-> a.json"]
    done.clear()
    with replacing_file(tmp_path / "b") as path:
        path.touch()
    assert done == ["b", "-> b"]
    done.clear()
    with replacing_folder(tmp_path / "above" / "c", tmp_path / "temporary") as folder:
        for name in ("x", "y"):
            (folder / name).touch()
    assert (sorted(done[:2]), done[2:]) == (["x", "y"], ["-> c", "above"])


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


def test_a_file_that_a_library_writes_replaces_the_one_before_with_all_that_lies_beside_it(tmp_path: Path) -> None:
    final = tmp_path / "a.safetensors"
    for content in ("old", "new"):
        with replacing_file(final) as path:
            path.write_text(content)
            path.with_name(".tmpUiZ7zm").write_text("half")
    assert final.read_text() == "new"
    assert list(tmp_path.iterdir()) == [final]


def test_a_file_that_is_not_written_to_the_end_changes_nothing(tmp_path: Path) -> None:
    final = tmp_path / "a.safetensors"
    final.write_text("old")
    with pytest.raises(OSError, match="No such file"), replacing_file(final) as path:
        path.with_name("half").write_text("half")  # and so there is nothing to put in place
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_umask_read_what_the_umask_lets_them_read(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replacing_file(tmp_path / "file") as path:
            save_file({"w": np.zeros(3)}, path)
        with replacing_folder(tmp_path / "final", tmp_path / "temporary") as folder:
            save_file({"w": np.zeros(3)}, folder / "w")
            (folder / "text").touch()
    finally:
        os.umask(before)
    modes = {(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "final/w", "final/text")}
    assert modes == {0o666 & ~umask}


def test_what_stands_in_the_way_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    message = r"File exists \(.*locks\)\. Something of another kind stands in its place\. Move it away"
    with pytest.raises(StoreError, match=message), writing(tmp_path):
        (tmp_path / "locks").mkdir()


def test_a_pipe_stays_a_pipe_where_a_file_should_be_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StoreError, match=r"is a named pipe, and a file would take its place"):
        write_atomically(pipe, b"rows")
    with pytest.raises(StoreError, match="is a named pipe"), replacing_file(pipe) as path:
        path.write_bytes(b"rows")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_devices_and_links_to_open_files_are_refused_and_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("stdout", "null"):
        with pytest.raises(StoreError, match=r"Nothing was written\. Name another file"):
            refuse_to_replace(tmp_path / name)
    (tmp_path / "rows.csv").write_text("rows")
    refuse_to_replace(tmp_path / "rows.csv")
    refuse_to_replace(tmp_path / "new.csv")


def test_a_file_that_cannot_be_written_is_named_as_people_know_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "absent" / "scores.csv", tmp_path / "folder"):
        with pytest.raises(OSError, match=re.escape(path.name)) as raised:
            write_atomically(path, b"1")
        assert (raised.value.filename, raised.value.filename2) == (str(path), None)


def test_so_it_is_where_nothing_can_be_deleted_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuses)
    monkeypatch.setattr(Path, "unlink", refuses)
    with pytest.raises(OSError, match="Read-only") as raised:
        write_atomically(tmp_path / "scores.csv", b"1")
    assert raised.value.filename == str(tmp_path / "scores.csv")
