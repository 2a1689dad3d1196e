"""Statistics: pure functions of stored predictions -> tables of scores, intervals and comparisons. No torch."""

from milbench.stats.analysis import Analysis, analyse
from milbench.stats.grid import FEWEST, Grid, TaskScores, grids
from milbench.stats.levels import metric_table
from milbench.stats.ranks import Ranks, rank_models
from milbench.stats.scores import SPREAD, SPREAD_OF_SIDES, Coverage, coverage, score_table, summary

__all__ = [
    "FEWEST",
    "SPREAD",
    "SPREAD_OF_SIDES",
    "Analysis",
    "Coverage",
    "Grid",
    "Ranks",
    "TaskScores",
    "analyse",
    "coverage",
    "grids",
    "metric_table",
    "rank_models",
    "score_table",
    "summary",
]
