"""External: a finished run's models on slides that the run never saw.

In: a run that kept its weights, and a cohort of another hospital, or slides without labels. Out: scores per slide beside the
run's own, tables of what is left of the run's numbers, or a table of predictions. Open `evaluate.py` first; `checks.py` says
what is refused before a slide is read, `scoring.py` reads the slides.
"""
