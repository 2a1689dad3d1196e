"""A stranger's zip: what no bundle holds is refused before anything is written."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from milbench.bundles import archive
from milbench.bundles.archive import unpacked, write_zip
from milbench.errors import StoreError


def zipped(path: Path, names: dict[str, bytes], **facts: int) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in names.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in facts.items():
                setattr(entry, key, value)
            file.writestr(entry, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as caught, unpacked(path):
        pass
    return str(caught.value)


@pytest.mark.parametrize("name", [
    "../outside.txt", "/etc/outside.txt", "a/../../outside.txt", "C:\\outside.txt", "..\\outside.txt", "a//b", "a/.hidden", "x:y",
    "/".join("abcdefghijklmnop"),
])  # fmt: skip
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = zipped(
        tmp_path / "in" / "x.zip" if (tmp_path / "in").mkdir() else tmp_path / "in/x.zip",
        {name: b"harmless", "bundle.json": b"{}"},
    )
    assert "It was not opened" in refusal(path)
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == ["x.zip"]


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"bundle.json": b"/etc/hostname"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    assert "a link or a special file" in refusal(path)


def test_a_name_twice_is_refused_also_if_only_its_letters_case_differs(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.csv": b"1", "A.csv": b"2"})
    assert "comes twice" in refusal(path)


def test_a_file_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FREE_RATIO_BYTES", 10_000)
    assert "would unpack to 1,000,000 bytes" in refusal(zipped(tmp_path / "x.zip", {"zeros.csv": bytes(1_000_000)}))


@pytest.mark.parametrize(("limit", "value"), [("MOST_FILES", 1), ("MOST_BYTES", 3)])
def test_too_many_files_or_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(archive, limit, value)
    assert "would unpack to more than" in refusal(zipped(tmp_path / "x.zip", {"a": b"12", "b": b"34"}))


def test_files_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.csv", os.urandom(2000))
        for number in range(4):
            twin = zipfile.ZipInfo(f"b{number}.csv")
            twin.file_size = twin.compress_size = 2000
            twin.CRC, twin.header_offset = file.filelist[0].CRC, file.filelist[0].header_offset
            file.filelist.append(twin)
            file.NameToInfo[twin.filename] = twin
    assert "share their bytes" in refusal(path)


def test_what_is_no_zip_or_no_bundle_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK no")
    assert "is no zip that can be read" in refusal(tmp_path / "x.zip")
    assert "holds no bundle" in refusal(zipped(tmp_path / "y.zip", {"a.csv": b"1"}))
    assert "is not there" in refusal(tmp_path / "z.zip")


def test_a_zip_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"bundle.json": os.urandom(5000)})
    content = bytearray(path.read_bytes())
    content[1000] ^= 255
    path.write_bytes(content)
    assert "is no zip that can be read" in refusal(path)


def test_a_link_and_a_pipe_in_a_folder_are_refused_unopened(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    (tmp_path / "a.csv").symlink_to("/etc/hostname")
    assert "is a link or a special file" in refusal(tmp_path)
    (tmp_path / "a.csv").unlink()
    os.mkfifo(tmp_path / "a.csv")
    assert "is a link or a special file" in refusal(tmp_path)


def test_a_packed_folder_comes_back_byte_for_byte(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    files = {"bundle.json": b"{}", "data/a b.csv": os.urandom(3000), "checksums.sha256": b""}
    for name, content in files.items():
        (root / name).write_bytes(content)
    write_zip(root, tmp_path / "x.zip")
    with unpacked(tmp_path / "x.zip") as folder:
        assert {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        } == files
    assert not folder.exists()


def test_a_folder_around_the_bundle_is_looked_into(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"toy/bundle.json": b"{}", "toy/a.csv": b"1"})
    with unpacked(path) as folder:
        assert folder.name == "toy"
