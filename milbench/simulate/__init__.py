"""Simulate: cohorts whose answer is known, for testing models and protocols where no TCGA features are at hand.

In: a design (sizes, signals, prevalences) and a seed. Out: a cohort folder, and the best AUC that any model can reach on it.

Open `design.py` first. Modules, each importing only those before it: `design` (every parameter, presets), `labels` (who is positive),
`carriers` (who shows it), `oracle` (the best AUC that can be had), `tissue` (where patches lie),
`signals` (what they hold), `write` (files). docs/simulate.md states the model in full.
"""
