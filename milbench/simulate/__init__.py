"""Simulate: cohorts whose answer is known, for testing models and protocols where no TCGA features are at hand.

In: a design (sizes, signals, kinds of tasks) and a seed. Out: a cohort folder, and the best score that any model can reach.

Open `design.py` first. Modules, each importing only those before it: `design` (every parameter, presets),
`optimum` (the best value of every metric), `channels` (a label from what a slide shows), `kinds` (tasks that are not binary),
`labels` (who is positive), `carriers` (who shows it), `oracle` (the best AUC of binary tasks that tell of each other),
`tissue` (where patches lie), `signals` (what they hold), `write` (files). docs/simulate.md states the model in full.
"""
