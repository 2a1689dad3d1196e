"""Verdicts: whether the stores bear out a claim, contradict it, or cannot tell, as a function of intervals alone.

::

    Contrast (a difference with its draws) -> Statement (contrasts and a rule) -> Claim (statements)

A statement is held where every contrast's 95 % interval says so: no correction is needed for that, since all must. It
is not held where one contrast says the opposite even after Bonferroni's correction over the contrasts of the claim.
Everything between cannot be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.errors import StoreError
from milbench.stats.arms import NO_DRAWS, Estimate

Floats = NDArray[np.float64]

LEVEL = 0.95
ABSENT = " is not in the stores"
"""How a reason ends that names what is missing."""

SPANS = "the interval does not settle it"
NO_INTERVAL = "too few test patients of a class for an interval"


class Verdict(StrEnum):
    """What the stores say of a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    UNTOLD = "cannot be told"


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Held where all are, not held where one is not, else it cannot be told."""
    found = set(verdicts)
    if Verdict.NOT_HELD in found:
        return Verdict.NOT_HELD
    return Verdict.HELD if found == {Verdict.HELD} else Verdict.UNTOLD


def opposite(verdict: Verdict) -> Verdict:
    """The verdict on "it is not so"."""
    turned = {Verdict.HELD: Verdict.NOT_HELD, Verdict.NOT_HELD: Verdict.HELD}
    return turned.get(verdict, verdict)


def in_one_line(reasons: Iterable[str]) -> str:
    """The distinct reasons; cohorts that are not in the stores are named together."""
    distinct = list(dict.fromkeys(reasons))
    absent = [reason.removesuffix(ABSENT) for reason in distinct if reason.endswith(ABSENT)]
    others = [reason for reason in distinct if not reason.endswith(ABSENT)]
    return "; ".join([*([f"not in the stores: {', '.join(absent)}"] if absent else []), *others])


class Contrast(NamedTuple):
    """A difference of two estimates, or why there is none.

    Attributes
    ----------
    label : "M4 - AMIL, TP53".
    value : NaN where nothing is known of it.
    why : why it or its interval is missing; empty where it has one.
    """

    label: str
    value: float = math.nan
    draws: Floats = NO_DRAWS
    why: str = ""

    def bounds(self, level: float = LEVEL) -> tuple[float, float]:
        """The percentile interval; NaN where there is none."""
        known = self.draws[~np.isnan(self.draws)]
        if not len(known):
            return math.nan, math.nan
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def contrast(label: str, make: Callable[[], Estimate]) -> Contrast:
    """The contrast that `make` computes; without a number where the stores lack what it needs."""
    try:
        value, draws = make()
    except StoreError as error:
        return Contrast(label, why=str(error))
    return Contrast(label, value, draws, why="" if len(draws) else NO_INTERVAL)


Rule = Callable[[Contrast, float], Verdict]
"""Verdict on one contrast, from its 95 % interval and from the wider one of the level given."""


def above(bar: float = 0.0) -> Rule:
    """The difference is above `bar`."""
    return lambda one, level: _between(one, level, held=(bar, math.inf), against=(-math.inf, bar))


def below(bar: float = 0.0) -> Rule:
    """The difference is below `bar`."""
    return lambda one, level: _between(one, level, held=(-math.inf, bar), against=(bar, math.inf))


def gain_of(size: float) -> Rule:
    """The difference is above zero, and a gain of `size` is not excluded; not held where it is excluded from above."""

    def rule(one: Contrast, level: float) -> Verdict:
        if one.bounds(level)[1] < size:
            return Verdict.NOT_HELD
        low, high = one.bounds()
        return Verdict.HELD if low > 0 and high >= size else Verdict.UNTOLD

    return rule


def within(margin: float) -> Rule:
    """The difference lies inside ± `margin`; not held where it lies outside on one side."""

    def rule(one: Contrast, level: float) -> Verdict:
        low, high = one.bounds(level)
        if low > margin or high < -margin:
            return Verdict.NOT_HELD
        low, high = one.bounds()
        return Verdict.HELD if -margin < low and high < margin else Verdict.UNTOLD

    return rule


def _between(one: Contrast, level: float, held: tuple[float, float], against: tuple[float, float]) -> Verdict:
    """Comparisons with NaN are false, so that a contrast without an interval cannot be told."""
    low, high = one.bounds()
    if held[0] < low and high < held[1]:
        return Verdict.HELD
    low, high = one.bounds(level)
    return Verdict.NOT_HELD if against[0] < low and high < against[1] else Verdict.UNTOLD


class Draft(NamedTuple):
    """A statement before it is judged.

    Attributes
    ----------
    text : what is said, in a few words.
    contrasts : all of which must follow the rule.
    paper : the same number in the paper; NaN where it prints none.
    negated : what is said is that they do *not* all follow the rule.
    shown : of the contrasts with a value, the one that speaks for all.
    """

    text: str
    contrasts: Sequence[Contrast]
    rule: Rule
    paper: float = math.nan
    negated: bool = False
    shown: Callable[[Contrast], float] = lambda one: one.value


@dataclass(frozen=True)
class Statement:
    """One sentence of a claim, judged.

    Attributes
    ----------
    contrast, value, low, high : the weakest difference behind it, and its 95 % interval; empty and NaN where there is
        none.
    paper : the same number in the paper; NaN where it prints none.
    n_contrasts, n_held : how many differences are behind it, and how many of them the rule holds for.
    reasons : why it cannot be told; empty where it can.
    """

    text: str
    contrast: str
    value: float
    low: float
    high: float
    paper: float
    n_contrasts: int
    n_held: int
    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def why(self) -> str:
        """The reasons in one line."""
        return in_one_line(self.reasons)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, judged on the stores.

    Attributes
    ----------
    number : as in docs/reproduce.md.
    text, where : what the paper says, shortened, and the section, table or figure that says it.
    """

    number: int
    text: str
    where: str
    statements: tuple[Statement, ...]

    @property
    def verdict(self) -> Verdict:
        """Held where all statements are; not held where one is not."""
        return all_of(statement.verdict for statement in self.statements)

    @property
    def why(self) -> str:
        """The distinct reasons why the claim cannot be told; empty where it can."""
        if self.verdict is not Verdict.UNTOLD:
            return ""
        return in_one_line(reason for statement in self.statements for reason in statement.reasons)


def judge(number: int, text: str, where: str, drafts: Sequence[Draft]) -> Claim:
    """The claim with a verdict on every statement."""
    n_told = sum(len(one.draws) > 0 for draft in drafts for one in draft.contrasts)
    level = 1 - (1 - LEVEL) / max(1, n_told)  # Bonferroni over what could contradict the claim
    return Claim(number, text, where, tuple(_judged(draft, level) for draft in drafts))


def _judged(draft: Draft, level: float) -> Statement:
    verdicts = [draft.rule(one, level) for one in draft.contrasts]
    verdict = opposite(all_of(verdicts)) if draft.negated else all_of(verdicts)
    shown = min(
        (one for one in draft.contrasts if not math.isnan(one.value)), key=draft.shown, default=draft.contrasts[0]
    )
    reasons = tuple(dict.fromkeys(one.why for one in draft.contrasts if one.why)) or (SPANS,)
    return Statement(
        draft.text, "" if math.isnan(shown.value) else shown.label, shown.value, *shown.bounds(), draft.paper, len(verdicts),
        verdicts.count(Verdict.HELD), verdict, reasons if verdict is Verdict.UNTOLD else (),
    )  # fmt: skip
