"""Tables of claims: the verdicts at a glance, the numbers behind them, and both as one long frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_lowercase

import pandas as pd

from milbench.report.score_tables import interval, signed
from milbench.report.tables import Cell, Row, Table
from milbench.report.verdicts import Claim, Statement, Verdict

CAPTION = (
    "Claims of the M4 paper, judged on these stores. Held: every statement of the claim is held. Not held: one is not. "
    "Else it cannot be told. A statement rests on differences; it is held where all their 95 % intervals (test "
    "patients and folds drawn together, the same draws for all models) say so, and not held where one contradicts it even "
    "after Bonferroni's correction over the differences of the claim."
)
NUMBERS = (
    "The numbers behind the verdicts on the paper's claims: of each statement the weakest difference that it rests on, its "
    "95 % interval, and for how many of its differences it holds. Differences are of AUROC; what experts share is a share."
)


def claim_tables(claims: Sequence[Claim]) -> list[Table]:
    """The verdicts, and the numbers behind them; none without claims."""
    return [_verdicts(claims), _numbers(claims)] if claims else []


def claim_frame(claims: Sequence[Claim]) -> pd.DataFrame | None:
    """One row a statement, with the claim that it belongs to; None without claims."""
    rows = [
        {"claim": claim.number, "text": claim.text, "where": claim.where, "claim_verdict": str(claim.verdict),
         **_plain(statement)}
        for claim in claims
        for statement in claim.statements
    ]  # fmt: skip
    return pd.DataFrame(rows) if rows else None


def _plain(one: Statement) -> dict[str, object]:
    return {
        "statement": one.text, "verdict": str(one.verdict), "contrast": one.contrast, "value": one.value, "low": one.low,
        "high": one.high, "paper": one.paper, "n_contrasts": one.n_contrasts, "n_held": one.n_held, "why": one.why,
    }  # fmt: skip


def _verdicts(claims: Sequence[Claim]) -> Table:
    marks = _marks([claim.why for claim in claims])
    rows = [
        Row(f"{claim.number}. {claim.text}", (
            Cell(claim.where), Cell(f"{_held(claim)} of {len(claim.statements)}"),
            Cell(str(claim.verdict) + (f" ({marks[claim.why]})" if claim.why else "")),
        ))
        for claim in claims
    ]  # fmt: skip
    columns = ("in the paper", "statements held", "verdict")
    return Table("claims", _with_notes(CAPTION, marks), "Claim", columns, tuple(rows), _frame(claims))


def _numbers(claims: Sequence[Claim]) -> Table:
    marks = _marks([statement.why for claim in claims for statement in claim.statements])
    rows = [
        Row(f"{claim.number}. {statement.text}", (
            Cell(_signed(statement.paper)), Cell(_signed(statement.value)), Cell(_interval(statement)),
            Cell(statement.contrast or "–"), Cell(f"{statement.n_held} of {statement.n_contrasts}"),
            Cell(str(statement.verdict) + (f" ({marks[statement.why]})" if statement.why else "")),
        ), rule=place == 0 and claim is not claims[0])
        for claim in claims
        for place, statement in enumerate(claim.statements)
    ]  # fmt: skip
    columns = ("paper", "ours", "95 % interval", "weakest difference", "hold", "verdict")
    return Table("claims_numbers", _with_notes(NUMBERS, marks), "Statement", columns, tuple(rows), _frame(claims))


def _frame(claims: Sequence[Claim]) -> pd.DataFrame:
    frame = claim_frame(claims)
    return pd.DataFrame() if frame is None else frame


def _held(claim: Claim) -> int:
    return sum(statement.verdict is Verdict.HELD for statement in claim.statements)


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else signed(value)


def _interval(statement: Statement) -> str:
    return interval(statement.low, statement.high, with_sign=True) or "–"


def _marks(reasons: Sequence[str]) -> dict[str, str]:
    """A letter for every distinct reason, in the order of the rows: "a" to "z", then "aa"."""
    distinct = dict.fromkeys(reason for reason in reasons if reason)
    return {reason: ascii_lowercase[i % 26] * (1 + i // 26) for i, reason in enumerate(distinct)}


def _with_notes(caption: str, marks: dict[str, str]) -> str:
    return " ".join([caption, *(f"({mark}) {reason}." for reason, mark in marks.items())])
