"""Cohorts: slides or patients x tasks, and a way to load each as a `Bag`.

In: labels and feature files of a folder, or a cohort.yaml. Out: a frozen `Cohort`. Open `cohort.py` first;
`cohort_file.py` is the YAML, `fingerprint.py` a cohort's identity, `patient_bags.py` joins the slides of a patient.
`scaling.py` fits feature scaling on the bags that it is given and no others.
"""
