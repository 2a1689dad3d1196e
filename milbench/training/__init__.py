"""Training: the only training loop.

In: learners (models with a recipe and two sides of a fold) and bags. Out: the weights of each trial's chosen epoch, its
history and its predictions. It knows no files, and no test slide reaches it before the epochs are chosen.
Open `trainer.py` first, then `learner.py`. `weights.py` stacks trials, `selection.py` chooses epochs. To train one model
on bags in memory, open `single_model.py`.
"""
