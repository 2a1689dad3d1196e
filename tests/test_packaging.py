"""What is installed is what lies in the folders: a forgotten sub-package would be silently missing from the wheel."""

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import distribution

from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    found = {
        ".".join([name, *path.parent.relative_to(ROOT / folder).parts])
        for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_file_of_data_is_listed_as_one() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["milbench"]
    package = ROOT / "milbench"
    data = [path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    inside = [path.relative_to(package) for path in data]
    assert inside
    assert not [path for path in inside if not any(fnmatch(str(path), pattern) for pattern in patterns)]


def test_every_dependency_is_pinned_in_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    wanted = {name.split(">")[0].lower() for name in PROJECT["project"]["dependencies"]}
    wanted |= {
        name.split(";")[0].split(">")[0]
        for extra in PROJECT["project"]["optional-dependencies"].values()
        for name in map(str.lower, extra)
        if "[" not in name
    }
    assert wanted <= pinned
    assert not [line for line in lines if "+" in line], "a local version cannot be had elsewhere"


def test_the_baselines_register_through_the_same_door_as_a_third_party() -> None:
    groups = [(point.group, point.value) for point in distribution("milbench").entry_points]
    assert ("milbench.models", "milbench_baselines") in groups


def test_the_folder_of_the_baselines_refuses_to_be_imported_by_its_own_name() -> None:
    result = subprocess.run([sys.executable, "-c", "import baselines"], cwd=ROOT, capture_output=True, text=True)
    assert "import these models as `milbench_baselines`" in result.stderr


def test_the_readme_gives_the_commands_that_ci_runs() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    for command in ("pip install -c constraints.txt . && milbench run", "pip install tox && tox"):
        assert f"\n{command}\n" in readme
        assert command in ci
