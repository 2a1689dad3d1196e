"""Harm to the files of a run folder: what a crash, an editor, a bad disk or a stranger may leave there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

OTHER_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**400, 1e308, "", "x", "../../keep", "/etc", "a\0b", "\ud800", "\u202eabc", "\x1b[2J",
    [], [1, 2], ["x"], {}, {"a": {"b": []}}, "NaN", "9" * 5000, [[[[[]]]]],
)  # fmt: skip
"""What takes the place of a value."""

HEADERS = ("run.yaml", "environment.json", "datasets.json", "plan.json", "questions.json")


def files_of(run: Path) -> list[Path]:
    """Every file that a command may read, one trial's for all, relative to the run."""
    trial = min(path.parent for path in run.glob("trials/*/*/*/*/trial.json"))
    tables = [*run.glob("splits/*.csv"), *run.glob("labels/*.csv")]
    inside = [*tables, *sorted(trial.iterdir()), *run.glob("failures/*.json"), *run.glob("shards/*.json")]
    return [Path(name) for name in HEADERS] + [path.relative_to(run) for path in inside]


def cut(path: Path, at: float) -> None:
    """Keep the first part of the file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * at)])


def flip(path: Path, at: float, by: int) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    if content:
        content[int((len(content) - 1) * at)] ^= by
    path.write_bytes(bytes(content))


def replace_value(path: Path, at: float, value: Any) -> None:
    """Put another value in the place of one in a JSON or YAML file, or of a cell in a CSV file."""
    if path.suffix == ".csv":
        return _replace_cell(path, at, value)
    whole = _load(path)
    places = list(_places(whole))
    holder, key = places[int((len(places) - 1) * at)]
    holder[key] = value
    _store(path, whole[0])


def delete_key(path: Path, at: float) -> None:
    """Delete a key of a JSON or YAML file, or a column of a CSV file."""
    if path.suffix == ".csv":
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.drop(columns=table.columns[int((table.shape[1] - 1) * at)]).to_csv(path, index=False)
        return
    whole = _load(path)
    places = [place for place in _places(whole) if isinstance(place[0], dict)]
    if places:
        holder, key = places[int((len(places) - 1) * at)]
        del holder[key]
    _store(path, whole[0])


def change_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change a trial's table and put its new checksum into `trial.json`, as somebody does who means it."""
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    reseal(path)


def reseal(path: Path) -> None:
    record = json.loads((path.parent / "trial.json").read_text())
    record["payload_sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "trial.json").write_text(json.dumps(record))


TABLE_CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "a column less": lambda table: table.drop(columns=table.columns[-1]),
    "a column more": lambda table: table.assign(more=1),
    "a column of another name": lambda table: table.rename(columns={table.columns[0]: "other"}),
    "numbers as text": lambda table: table.astype({table.columns[-1]: str}),
    "text as numbers": lambda table: table.assign(**{table.columns[0]: 1.5}),
    "rows twice": lambda table: pd.concat([table, table]),
    "no rows": lambda table: table.iloc[:0],
    "half of the rows": lambda table: table.iloc[: len(table) // 2],
    "values out of range": lambda table: table.assign(**{table.columns[-1]: 1e300}),
    "lists": lambda table: table.assign(**{table.columns[-1]: [[1.0]] * len(table)}),
    "nothing": lambda table: table.assign(**{table.columns[0]: None}),
}  # fmt: skip
"""Other schemas and contents of predictions and histories."""


def _load(path: Path) -> list[Any]:
    return [(yaml.safe_load if path.suffix == ".yaml" else json.loads)(path.read_text())]


def _store(path: Path, value: Any) -> None:
    """As JSON, which YAML contains. Half of a surrogate pair has no bytes in UTF-8, and stays an escape."""
    path.write_text(json.dumps(value))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below `value`, with every key of it."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)


def _replace_cell(path: Path, at: float, value: Any) -> None:
    lines = path.read_text().splitlines()
    row = int((len(lines) - 1) * at)
    cells = lines[row].split(",")
    cells[int((len(cells) - 1) * at)] = json.dumps(value)
    path.write_text("\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n")
