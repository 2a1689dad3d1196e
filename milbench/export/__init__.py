"""Export: a trained model as a folder of its own, which others use without the run.

In: a finished run that kept its weights, and which of its models. Out: weights, `model.json` with all that turns features
into answers, a model card, and an ONNX file where the model allows it. Open `folder.py` first; `exported.py` loads such a
folder again.
"""
