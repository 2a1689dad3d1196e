"""Cohorts: slides x tasks, and a way to load each slide as a `Bag`.

In: labels and feature files of a folder, or a cohort.yaml. Out: a frozen `Cohort`. Open `cohort.py` first;
`cohort_file.py` is the YAML, `fingerprint.py` a cohort's identity. `scaling.py` fits feature scaling on the slides that it
is given and no others.
"""
