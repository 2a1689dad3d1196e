"""The commit is that of milbench's own text, or nobody's."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from places import ROOT

from milbench.runs.commit import RECORD, commit_of
from milbench.runs.environment import describe_environment


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def repository(folder: Path, *tracked: str) -> str:
    """Commit of a new repository with these files."""
    git(folder.parent, "init", "-q", str(folder))
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "All of it", "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def installed_in(folder: Path) -> Path:
    package = folder / ".venv" / "lib" / "milbench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    return package


def test_a_checkout_has_its_commit_and_says_whether_files_were_changed(tmp_path: Path) -> None:
    commit = repository(tmp_path / "checkout", "pyproject.toml", "milbench/__init__.py")
    package = tmp_path / "checkout" / "milbench"
    assert commit_of(package) == commit
    (package / "__init__.py").write_text("changed")
    assert commit_of(package) == f"{commit}-dirty"


@pytest.mark.parametrize("tracked", [False, True], ids=["ignored", "tracked"])
def test_an_environment_inside_a_users_repository_has_not_the_users_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tracked: bool
) -> None:
    repository(tmp_path / "user", "pyproject.toml")
    package = installed_in(tmp_path / "user")
    if tracked:
        git(tmp_path / "user", "add", "-A")
        git(tmp_path / "user", "commit", "-qm", "Even the environment")
    monkeypatch.chdir(tmp_path / "user")
    assert commit_of(package) == ""
    (package / RECORD).write_text("0123abc\n")
    assert commit_of(package) == "0123abc"


def test_a_git_hooks_environment_names_no_other_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path / "user", "milbench/__init__.py")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "user" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "user"))
    assert commit_of(installed_in(tmp_path / "elsewhere")) == ""


def test_a_package_that_no_repository_holds_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = installed_in(tmp_path)
    assert commit_of(package) == ""
    monkeypatch.setenv("PATH", "")
    assert commit_of(package) == "", "nor where there is no git"


def test_a_runs_environment_does_not_depend_on_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = describe_environment()["git"]
    repository(tmp_path / "user", "pyproject.toml", "milbench/__init__.py")
    monkeypatch.chdir(tmp_path / "user")
    assert describe_environment()["git"] == here


@pytest.mark.slow
def test_wheels_and_source_archives_hold_the_commit_that_they_are_made_from(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout to build from")
    checkout = tmp_path / "checkout"
    git(tmp_path, "clone", "-q", str(ROOT), str(checkout))
    shutil.copy(ROOT / "setup.py", checkout)
    commit = commit_of(checkout / "milbench")
    assert recorded_in(built("wheel", checkout, tmp_path / "wheel")) == commit
    archive = built("sdist", checkout, tmp_path / "archive")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert recorded_in(built("wheel", unpacked, tmp_path / "from_archive")) == commit
    (unpacked / "milbench" / RECORD).unlink()
    repository(tmp_path / "unpacked")
    assert recorded_in(built("wheel", unpacked, tmp_path / "from_nowhere")) == ""


def built(what: str, checkout: Path, out: Path) -> Path:
    out.mkdir()
    code = f"import setuptools.build_meta as build; build.build_{what}({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, check=True)
    (made,) = out.iterdir()
    return made


def recorded_in(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        assert "milbench/runs/commit.py" in names
        return packed.read(f"milbench/{RECORD}").decode().strip() if f"milbench/{RECORD}" in names else ""
