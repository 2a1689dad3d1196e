"""Statistics: pure functions of stored predictions -> tables of scores, intervals and comparisons. No torch."""

from milbench.stats.analysis import Analysis, analyse
from milbench.stats.grid import FEWEST, Grid, TaskScores, grids
from milbench.stats.levels import metric_table
from milbench.stats.ranks import Ranks, rank_models

__all__ = [
    "FEWEST",
    "Analysis",
    "Grid",
    "Ranks",
    "TaskScores",
    "analyse",
    "grids",
    "metric_table",
    "rank_models",
]
