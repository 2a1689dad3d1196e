"""milbench: one registry, one splitter and one trainer for multiple-instance learning on slides."""

__version__ = "0.1.0"
