"""Endpoints: what a task asks of a slide, and how a model's logits answer it.

In: labels of slides, logits of models. Out: targets of a fold, losses, answers in the user's words and units.
Open `endpoint.py` first: it names the five kinds and says how a label is kept as one number. `fitted.py` holds what a
fold's training patients decide (bins, scale, the loss of the best constant); `losses.py` and `evidence.py` alone reach
torch.
"""
