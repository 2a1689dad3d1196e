"""What the check of a release calls missing, too many and other; the check itself builds, and is `tox -e release`."""

import ast
import zipfile
from pathlib import Path

import pytest
import release
from places import ROOT

from milbench.commands import cli


def make_wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_a_file_that_is_missing_too_many_or_other_is_named(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "a.whl", {"p/a.py": "1", "p/old.py": "", "p/c.csv": "2", "p-1.dist-info/RECORD": "x"})
    found = release.files_of_wheel(wheel)
    assert set(found) == {"p/a.py", "p/old.py", "p/c.csv"}
    expected = {"p/a.py": release.sha256(b"1"), "p/sub/b.py": "", "p/c.csv": release.sha256(b"3")}
    assert list(release.differences(expected, found, "the wheel")) == [
        "the wheel holds another p/c.csv than expected.",
        "the wheel holds p/old.py, which should not be there.",
        "the wheel lacks p/sub/b.py. List its package or its pattern in pyproject.toml.",
    ]


def test_the_commit_and_the_wheels_own_records_are_no_files_of_the_packages() -> None:
    names = ["milbench/a.py", release.COMMIT, "milbench-0.1.0.dist-info/METADATA"]
    assert list(release.packages_of(dict.fromkeys(names, ""))) == ["milbench/a.py"]


def test_every_file_in_the_folders_of_the_packages_is_expected() -> None:
    expected = release.files_of_packages(ROOT)
    assert {
        "milbench/py.typed",
        "milbench/commands/doctor/try_locks.py",
        "milbench_baselines/layers/__init__.py",
    } <= set(expected)
    assert not [name for name in expected if name.startswith("baselines/")]
    assert "milbench/datasets/tcga_tables/NOTICE.txt" in expected


def test_the_commands_that_the_installed_wheel_must_answer_exist() -> None:
    assert {words[0] for words in release.COMMANDS} - set(cli.COMMANDS) == {"--version"}


@pytest.mark.parametrize(("module", "package"), release.NEEDS_MORE.items())
def test_a_module_that_may_fail_in_a_bare_installation_imports_that_package(module: str, package: str) -> None:
    path = ROOT / f"{module.replace('milbench_baselines', 'baselines').replace('.', '/')}.py"
    tops = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import)]
    assert package in [alias.name for node in tops for alias in node.names]
