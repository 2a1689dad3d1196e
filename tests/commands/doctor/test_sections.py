"""What each look finds: packages, limits, disks, the database, variables."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from places import ROOT

from milbench.commands.doctor import database, disks, packages, requirements
from milbench.commands.doctor.database import database_beside, known_tables
from milbench.commands.doctor.requirements import Requirement, numbers
from milbench.commands.doctor.variables import address, variables


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_checkout_and_an_installed_milbench_need_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    of_checkout = requirements.requirements()
    assert set(of_checkout) == {"", *project["optional-dependencies"]}
    assert {str(each) for each in of_checkout[""]} == set(project["dependencies"])
    lines = list(project["dependencies"])
    for extra, every in project["optional-dependencies"].items():
        lines += [
            f'{each.replace(";", "; (")}) and extra == "{extra}"' if ";" in each else f'{each}; extra == "{extra}"'
            for each in every
        ]
    monkeypatch.setattr(requirements, "checkout", lambda: tmp_path)
    monkeypatch.setattr(requirements, "requires", lambda _: lines)
    assert requirements.requirements() == of_checkout


def test_an_extra_that_names_another_needs_what_that_needs() -> None:
    of_features = {each.name for each in requirements.requirements()["features"]}
    assert {"timm", "scikit-image", "openslide-python", "tifffile"} <= of_features


def test_a_package_that_is_missing_or_too_old_is_broken_and_an_extra_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {
        "": (Requirement("numpy"), Requirement("torch", "99.1"), Requirement("no-such-package")),
        "zarr": (Requirement("no-such-zarr", "3"),),
    }
    monkeypatch.setattr(packages, "requirements", lambda: needs)
    monkeypatch.setattr(packages, "imported", lambda _: {})
    assert [remark.fix for remark in packages.packages().broken] == [
        "pip install 'torch>=99.1'",
        "pip install 'no-such-package'",
    ]
    found = packages.extras()
    assert found.broken == ()
    assert found.text == "installed: none; not installed: zarr (without no-such-zarr>=3); pip install 'milbench[zarr]'"


def test_versions_are_compared_by_their_numbers() -> None:
    assert numbers("2.13.0+cpu") == (2, 13, 0)
    assert numbers("2.9") < numbers("2.13.0rc1")
    assert numbers("") == ()


def test_only_packages_of_another_version_than_the_tested_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "tested_versions", lambda: {"torch": "2.13.0", "numpy": "2.4.6", "absent": "1"})
    here = {"torch": "2.13.0+cpu", "numpy": "2.5.0", "absent": ""}
    monkeypatch.setattr(packages, "installed", here.get)
    found = packages.differences()
    assert found.text == "numpy 2.5.0 (tested: 2.4.6)"
    assert found.values == {"numpy": {"here": "2.5.0", "tested": "2.4.6"}}


def test_the_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = write(
        tmp_path / "mountinfo",
        f"22 1 8:1 / / rw - ext4 /dev/vda1 rw\n"
        f"23 22 0:9 / {tmp_path}/my\\040runs rw shared:1 - lustre server:/x rw\n"
        f"24 22 0:9 / {tmp_path}/my rw - nfs4 server:/y rw\n",
    )
    (tmp_path / "my runs" / "a").mkdir(parents=True)
    assert disks.file_system(tmp_path / "my runs" / "a", mounts) == "lustre"
    assert disks.file_system(tmp_path, mounts) == "ext4"
    assert disks.file_system(tmp_path, tmp_path / "none") == "unknown file system"


@pytest.mark.parametrize(("free", "broken", "notes"), [(10**7, 3, 0), (10**9, 0, 3), (10**12, 0, 0)])
def test_a_full_disk_is_broken_and_a_scarce_one_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, broken: int, notes: int
) -> None:
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda _: disks.shutil._ntuple_diskusage(10**13, 0, free))
    found = disks.disks_of(tmp_path / "not" / "yet" / "there")
    assert (len(found.broken), len(found.notes)) == (broken, notes)
    assert found.values["runs"]["path"] == str(tmp_path)


def make_database(runs: Path, tables: str) -> Path:
    runs.mkdir(exist_ok=True)
    with closing(sqlite3.connect(runs / "mlflow.db")) as made, made:
        made.execute("CREATE TABLE alembic_version (version_num TEXT)")
        made.execute("INSERT INTO alembic_version VALUES (?)", (tables,))
    return runs


@pytest.mark.slow
def test_the_newest_tables_that_mlflow_knows_are_those_that_it_expects() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    folder = database._migrations()
    assert folder
    config = Config()
    config.set_main_option("script_location", str(folder.parent))
    newest, known = known_tables()
    assert [newest] == ScriptDirectory.from_config(config).get_heads()
    assert len(known) > 30


def test_a_database_is_found_and_fits_or_says_what_to_do(tmp_path: Path) -> None:
    newest, known = known_tables()
    assert "no " in database_beside(tmp_path / "none").text
    assert database_beside(make_database(tmp_path / "fits", newest)).broken == ()
    (older,) = database_beside(make_database(tmp_path / "old", min(known - {newest}))).broken
    assert "older MLflow" in older.what
    assert "mlflow db upgrade" in older.fix
    (later,) = database_beside(make_database(tmp_path / "later", "ffffffffffff")).broken
    assert "newer MLflow" in later.what


def test_a_database_that_is_locked_or_is_none_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.tracking.knock.KNOCK_SECONDS", 0.05)
    runs = make_database(tmp_path / "held", "x")
    with closing(sqlite3.connect(runs / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert "another process has held the lock" in database_beside(runs).broken[0].what
    write(runs / "mlflow.db", "no database at all, and long enough to be read as one" * 20)
    assert "not a database" in database_beside(runs).broken[0].what


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@mlflow.clinic.org:5000/team?token=1#x", "https://(a server):5000"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////data/ada/mlflow.db", "sqlite:(not shown)"),
        ("runs/mlruns", "(a folder)"),
        ("postgresql://me:secret@db/x", "postgresql://(a server)"),
        ("databricks:secret", "databricks:(not shown)"),
        ("http://[oops", "(no address)"),
    ],
)
def test_an_address_names_no_host_no_user_and_no_token(uri: str, shown: str) -> None:
    assert address(uri) == shown


def test_variables_of_others_are_named_without_their_values() -> None:
    found = variables(
        {
            "SLURM_JOB_ACCOUNT": "secret",
            "OMP_NUM_THREADS": "2",
            "MLFLOW_TRACKING_PASSWORD": "secret",
            "EDITOR": "secret",
            "MILBENCH_DATA": "/secret",
        }
    )
    assert (
        found.text == "OMP_NUM_THREADS=2; values not shown: MILBENCH_DATA, MLFLOW_TRACKING_PASSWORD, SLURM_JOB_ACCOUNT"
    )
    assert "secret" not in repr(found)
