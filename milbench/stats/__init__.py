"""Statistics: pure functions of stored predictions -> tables of scores, intervals and comparisons. No torch."""

from milbench.stats.analysis import Analysis, analyse
from milbench.stats.ranks import Ranks, rank_models
from milbench.stats.scores import SPREAD, SPREAD_OF_SIDES, Coverage, coverage, score_table, summary

__all__ = [
    "SPREAD",
    "SPREAD_OF_SIDES",
    "Analysis",
    "Coverage",
    "Ranks",
    "analyse",
    "coverage",
    "rank_models",
    "score_table",
    "summary",
]
