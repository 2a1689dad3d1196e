"""What is released is whole: wheel and source archive hold every file, and the wheel works where no checkout is.

    python benchmarks/release.py              # builds both from a clean copy, compares, installs the wheel and runs it
    python benchmarks/release.py --no-install # builds and compares only

`tox -e release` is the check, and leaves both archives in dist/. A forgotten sub-package works in a checkout and in an editable
install, and is missing from the wheel. A wheel that is built in a checkout may hold files that `build/` kept from earlier. So both
archives are built from a copy of the commit and its uncommitted changes, and the installed command runs in an empty folder,
without PYTHONPATH.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

COMMIT = "milbench/COMMIT"
"""Written when a wheel or source archive is made; no file of the checkout."""

NEEDS_MORE = {"milbench_baselines.layers.gated_pooling_kernels": "triton"}
"""Modules that import a package of an extra when they are imported, and that package."""

COMMANDS = (["--version"], ["models"], ["models", "m4"], ["datasets"], ["doctor"])
"""What the installed command must answer with exit code 0."""

BENCHMARK = (
    ["run", "--models", "mean_pooling", "m4", "--tasks", "has_0", "has_2", "--folds", "0", "1", "--set", "trainer.epochs=1",
     "--run", "run", "--no-tracking"],
    ["report", "run", "--out", "report", "--draws", "200", "--no-tracking"],
)  # fmt: skip
"""What writes into the folder that it is called in."""

EVERY_MODULE = f"""
import importlib, pkgutil
import milbench, milbench_baselines

failed = []
for package in (milbench, milbench_baselines):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if {NEEDS_MORE}.get(module.name) != error.name:
                failed.append(f"{{module.name}}: {{error}}")
print(milbench.__file__)
raise SystemExit("\\n".join(failed) or 0)
"""


def copy_of_checkout(folder: Path) -> Path:
    """A clone of the checkout's commit in `folder`, with what is changed and not committed laid over it."""
    copy = folder / "milbench"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(copy)], check=True)
    # a worktree's clone has the commit of the worktree, since that is its HEAD
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if not (ROOT / name).is_file():  # deleted, and not committed
            (copy / name).unlink(missing_ok=True)
        elif not (copy / name).is_file() or (copy / name).read_bytes() != (ROOT / name).read_bytes():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return copy


def build(source: Path, out: Path, *what: str) -> Path:
    """The wheel that `python -m build` makes of `source`; without `what`, by way of a source archive that lies beside it."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), *what, str(source)], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def files_of_packages(source: Path) -> dict[str, str]:
    """SHA-256 by the name that each file of the packages has in a wheel: all that lies in their folders."""
    folders = tomllib.loads((source / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    return {
        f"{package}/{path.relative_to(source / folder).as_posix()}": sha256(path.read_bytes())
        for package, folder in folders.items()
        for path in (source / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def files_of_wheel(wheel: Path) -> dict[str, str]:
    """SHA-256 by name of a wheel's files, without the list that says the same of them."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith((".dist-info/RECORD", "/"))]
        return {name: sha256(archive.read(name)) for name in names}


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def differences(expected: Mapping[str, str], found: Mapping[str, str], what: str) -> Iterator[str]:
    """A sentence for each file that is missing, too many or other than expected."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"{what} lacks {name}. List its package or its pattern in pyproject.toml."
        elif name not in expected:
            yield f"{what} holds {name}, which should not be there."
        elif expected[name] != found[name]:
            yield f"{what} holds another {name} than expected."


def packages_of(wheel: Mapping[str, str]) -> dict[str, str]:
    """Files of a wheel that come from the folders of packages."""
    return {name: digest for name, digest in wheel.items() if ".dist-info/" not in name and name != COMMIT}


def run_installed(wheel: Path, folder: Path) -> None:
    """Install the wheel into a new environment, import every module of it, and run the first commands of a user."""
    environment, empty = folder / "environment", folder / "empty"
    empty.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel], check=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    clean |= {"XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "118"}
    place = subprocess.run(
        [python, "-c", EVERY_MODULE], cwd=empty, env=clean, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert Path(place.strip()).is_relative_to(environment), f"milbench was imported from {place}"
    for words in COMMANDS:
        subprocess.run([environment / "bin" / "milbench", *words], cwd=empty, env=clean, check=True)
    assert list(empty.iterdir()) == [], "a command that only tells has written something"
    for words in BENCHMARK:
        subprocess.run([environment / "bin" / "milbench", *words], cwd=empty, env=clean, check=True)
    assert (empty / "report" / "index.html").stat().st_size


def keep(archives: Sequence[Path]) -> None:
    """Lay what was tried into dist/, and nothing else."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    for archive in archives:
        shutil.copyfile(archive, dist / archive.name)
    print(f"dist/: {', '.join(archive.name for archive in archives)}")


def main(*, installs: bool) -> None:
    """Build, compare, install, run; ends with a list of what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = copy_of_checkout(folder)
        expected = files_of_packages(source)
        direct = build(source, folder / "direct", "--wheel")
        by_archive = build(source, folder / "by-archive")
        first, second = files_of_wheel(direct), files_of_wheel(by_archive)
        wrong = [
            *differences(expected, packages_of(first), "the wheel"),
            *differences(first, second, "the wheel that is built from the source archive"),
        ]
        if COMMIT not in first:
            wrong.append(f"the wheel lacks {COMMIT}: is git there?")
        if wrong:
            raise SystemExit("\n".join(wrong))
        print(f"{len(first)} files in {direct.name}, the same by way of the source archive")
        archives = sorted((folder / "by-archive").iterdir())
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *archives], check=True)
        if installs:
            run_installed(by_archive, folder)
            print("the installed wheel works outside of any checkout")
            keep(archives)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--no-install", action="store_true", help="build and compare only")
    main(installs=not flags.parse_args().no_install)
