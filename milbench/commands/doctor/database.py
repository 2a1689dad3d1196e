"""Database: the MLflow database beside the runs: whether it is there, answers, and fits the MLflow that is installed."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from milbench.commands.doctor.requirements import installed
from milbench.commands.doctor.section import Remark, Section
from milbench.machine.sizes import bytes_text

MIGRATIONS = Path("store/db_migrations/versions")
"""Folder in MLflow's package with a file per version of its tables."""

REVISION = re.compile(r"^(down_)?revision\b.*?=\s*(.*)$", re.MULTILINE)


def database_beside(runs: Path) -> Section:
    """State of `mlflow.db` in the folder of runs."""
    from milbench.tracking.client import DATABASE, default_uri
    from milbench.tracking.knock import knock

    path, mlflow = runs / DATABASE, installed("mlflow")
    if not path.exists():
        return Section("MLflow", f"no {path} yet; MLflow {mlflow or 'is missing'}", {"path": str(path), "found": False})
    values = {"path": str(path), "found": True, "bytes": path.stat().st_size}
    try:
        knock(default_uri(runs))
    except OSError as error:
        fix = "End the command that holds it, or move the file away: `milbench track` fills a new one."
        return Section(
            "MLflow", f"{path}: {error}", {**values, "error": str(error)}, (Remark(f"{path}: {error}.", fix),)
        )
    tables = tables_version(path)
    text = f"{path}, {bytes_text(path.stat().st_size)}, tables of version {tables or 'unknown'}; MLflow {mlflow or 'is missing'}"
    return Section("MLflow", text, {**values, "tables": tables}, _of_tables(path, tables, *known_tables()))


def tables_version(path: Path) -> str:
    """The version of a database's tables, as MLflow names it; "" if it has none."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as database:
        try:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.Error:
            return ""
    return str(row[0]) if row else ""


def known_tables(folder: Path | None = None) -> tuple[str, frozenset[str]]:
    """The newest version of tables that the installed MLflow makes, and all that it knows; read from its files."""
    folder = folder or _migrations()
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))] if folder else []
    pairs = [(bool(down), value) for text in texts for down, value in REVISION.findall(text)]
    known = {name for is_down, value in pairs if not is_down for name in re.findall(r"\w{6,}", value)}
    before = {name for is_down, value in pairs if is_down for name in re.findall(r"\w{6,}", value)}
    newest = known - before
    return (newest.pop() if len(newest) == 1 else ""), frozenset(known)


def _migrations() -> Path | None:
    spec = importlib.util.find_spec("mlflow")
    places = (spec.submodule_search_locations or []) if spec else []
    return next((Path(place) / MIGRATIONS for place in places), None)


def _of_tables(path: Path, tables: str, newest: str, known: frozenset[str]) -> tuple[Remark, ...]:
    if not tables or not newest or tables == newest:
        return ()
    if tables in known:
        fix = f"Copy the file, then: mlflow db upgrade sqlite:///{path}"
        return (Remark(f"{path} has tables of an older MLflow ({tables}), which this one refuses.", fix),)
    fix = "pip install --upgrade mlflow, or move the file away: `milbench track` fills a new one."
    return (Remark(f"{path} has tables of a newer MLflow ({tables}).", fix),)
