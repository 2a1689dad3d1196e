"""Serving: features on their way to the trainer.

In: a cohort, a fold, and how much memory there is. Out: bags in the asked order, on the device, and the labels of each side.
Open `cohort_features.py` first. `feature_store.py` keeps bags or hands out those that
`read_ahead.py` reads while others are worked on, `residency.py` decides which, and
`fold_data.py` makes the sides of a fold and fits the scaler on its training slides.
"""
