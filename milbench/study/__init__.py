"""Study: the tables and figures of the M4 paper, and the trainings that each of them needs.

In: the names of parts (Table 2, Fig. 4a, ...). Out: run folders that share their trials, ready for the study's report.
Open `parts.py` first (which part needs which trainings), then `reproduce.py` (how they are run).
"""
