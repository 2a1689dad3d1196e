"""`PageData` -> JSON that a page may carry: columns of plain values, NaN as null, no character that HTML would read."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from milbench.report.comparisons import FIXED_SCALE
from milbench.report.html.data import KindBlock, PageData, RocCurve
from milbench.report.looks import page_looks
from milbench.report.tables import Table
from milbench.report.told_apart import told_apart
from milbench.stats.analysis import Analysis
from milbench.stats.ranks import Ranks
from milbench.visible import visible

DIGITS = 6
"""Significant digits on the page: more than any interval supports, and half the bytes of full precision."""

CURVE_DIGITS = 4
# HTML reads these inside <script>, or JavaScript once took the last two for line ends.
DANGEROUS = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


NUMBERS = frozenset({float, int, bool, type(None)})


def to_json(value: Any) -> str:
    """`value` as JSON that is safe between script tags; the same value gives the same text."""
    text = json.dumps(_visible(value), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(DANGEROUS)


def _visible(value: Any) -> Any:
    """`value` with nothing hidden in any text of it, as the page shows it."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {_visible(key): _visible(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):  # most are long lists of numbers
        return [each if type(each) in NUMBERS else _visible(each) for each in value]
    return value


def blocks(page: PageData) -> dict[str, Any]:
    """The page's data in parts that it reads when it needs them: `core` and `kinds` at once, `curves` and `roc` later."""
    return {
        "core": _core(page),
        "kinds": [_kind(block) for block in page.kinds],
        "curves": _curves(page.curves),
        "roc": [_roc(curve) for curve in page.roc],
    }


def _kind(block: KindBlock) -> dict[str, Any]:
    """Tables as they are printed, with the numbers behind them, and figures as PNG."""
    pictures = [(each.stem, each.caption, b64encode(each.png).decode()) for each in block.pictures]
    return {"kind": block.kind, "tables": [_table(table) for table in block.tables], "pictures": pictures}


def _table(table: Table) -> dict[str, Any]:
    rows = [
        {"title": row.title, "cells": [(cell.text, cell.below, cell.style) for cell in row.cells]} for row in table.rows
    ]
    return {"name": table.name, "caption": table.caption, "head": table.head, "columns": list(table.columns), "rows": rows,
            "data": columns(table.data)}  # fmt: skip


def _core(page: PageData) -> dict[str, Any]:
    analysis = page.analysis
    frames = {name: columns(analysis.metric.as_written(getattr(analysis, name))) for name in FRAMES}
    own = {name: columns(analysis.metric.as_written(getattr(page, name))) for name in OWN}
    return {
        **frames,
        **own,
        "ranks": None if analysis.ranks is None else _ranks(analysis.ranks),
        "apart": _apart(analysis),
        "looks": page_looks(
            list(dict.fromkeys([*analysis.cells["model"], *analysis.cohorts["model"]])), page.highlight
        ),
        "reference": analysis.reference,
        "left_out": [list(cell) for cell in analysis.left_out],
        "cohort_titles": dict(page.cohort_titles),
        "bag": page.bag,
        "pooled": list(page.pooled),
        "validation": "validation score" if page.kinds else "validation AUROC",
    }


OWN = ("costs", "failures", "undefined", "baselines", "published", "claims")
FRAMES = ("scores", "tasks", "cells", "against", "cohorts", "overall", "pairs")


def columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """The frame by column, as plain values."""
    return {str(name): _plain_all(frame[name]) for name in frame.columns}


def _plain_all(values: Iterable[Any], digits: int = DIGITS) -> list[Any]:
    if isinstance(getattr(values, "dtype", None), np.dtype):  # then all are of one kind
        array = np.asarray(values)
        if array.dtype.kind in "biu":
            return list(array.tolist())
        if array.dtype.kind == "f":
            return [_number(value, digits) for value in array.tolist()]
    return [_plain(value, digits) for value in values]


def _plain(value: Any, digits: int = DIGITS) -> Any:
    """A value that JSON knows; numbers to some significant digits, None where there is none."""
    if isinstance(value, str):  # most are
        return str(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return _number(float(value), digits)
    return str(value)


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded


def _ranks(ranks: Ranks) -> dict[str, Any]:
    models = [str(model) for model in ranks.mean_ranks.index]
    tables = {name: _square(getattr(ranks, name), models) for name in SQUARES}
    return {
        "models": models,
        "mean_ranks": _plain_all(ranks.mean_ranks),
        "friedman_p": _plain(ranks.friedman_p),
        "n_cells": int(ranks.n_cells),
        **tables,
    }


def _apart(analysis: Analysis) -> dict[str, Any] | None:
    """The verdict on pairs, models in the order of the ranks."""
    verdict = told_apart(analysis)
    if verdict is None:
        return None
    p = _square(verdict.p, [str(model) for model in verdict.p.index])
    return {"p": p, "note": verdict.note, "can_tell": verdict.can_tell, "full_colour": FIXED_SCALE}


SQUARES = ("wilcoxon_p", "wins", "ties", "losses", "mean_difference")


def _square(frame: pd.DataFrame, models: list[str]) -> list[list[Any]]:
    return [_plain_all(row) for row in frame.reindex(index=models, columns=models).to_numpy(dtype=float)]


def _curves(curves: pd.DataFrame) -> list[Mapping[str, Any]]:
    """One entry per trial, in the order of the trials' names; the numbers of its epochs as lists."""
    keys = ["dataset", "model", "task_label", "fold", "seed"]
    numbers = ["train_loss", "val_loss", "val_auroc"]
    ordered = curves.sort_values([*keys, "epoch"], kind="stable")
    of_epochs = {
        "epoch": _plain_all(ordered["epoch"] + 1),  # people count from 1
        **{name: _plain_all(ordered[name], CURVE_DIGITS) for name in numbers},
    }
    n_epochs = ordered.groupby(keys, sort=True).size()  # its order is that of the rows
    ends = np.cumsum(n_epochs.to_numpy()).tolist()
    return [
        {
            **{name: _plain(value) for name, value in zip(keys, key, strict=True)},
            **{name: values[start:end] for name, values in of_epochs.items()},
        }
        for key, start, end in zip(n_epochs.index, [0, *ends], ends, strict=False)
    ]


def _roc(curve: RocCurve) -> dict[str, Any]:
    """Targets as a word of 0 and 1; probabilities to five digits, which leaves the order of slides alone."""
    return {
        "dataset": curve.dataset,
        "task": curve.task,
        "model": curve.model,
        "targets": "".join(str(target) for target in curve.targets),
        "probabilities": _plain_all(curve.probabilities, 5),
    }
