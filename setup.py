"""The one step of the build that pyproject.toml cannot say: the commit is recorded in wheels and source archives."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent

# by its path: importing milbench.runs would import torch, which is not there when a wheel is built
COMMIT = runpy.run_path(str(ROOT / "milbench" / "runs" / "commit.py"))


def record(package: Path) -> None:
    """Write the commit into `package`, or nothing where nobody knows it."""
    target = package / COMMIT["RECORD"]
    target.unlink(missing_ok=True)  # of an earlier build in the same folder
    if found := COMMIT["commit_of"](ROOT / "milbench"):
        target.write_text(found + "\n", encoding="utf-8")


class BuildWithCommit(build_py):
    """A wheel's package with the commit in it; an editable install asks its checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            record(Path(self.build_lib) / "milbench")


class ArchiveWithCommit(sdist):
    """A source archive with the commit in it: a wheel that is built from it has no checkout to ask."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        record(Path(base_dir) / "milbench")


setup(cmdclass={"build_py": BuildWithCommit, "sdist": ArchiveWithCommit})
