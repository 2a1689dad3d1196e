"""Bundles: a finished run as a folder or zip that travels, and the proof that its tables follow from its predictions.

::

    study.zip  bundle.json  README.md  CITATION.cff  ro-crate-metadata.json  checksums.sha256
      runs/study/    the run without features, weights, hosts and paths: still a run folder, so every command reads it
      report/        what `milbench report runs/study` writes

In: a finished run, or bundles of several people. Out: a bundle, a list of what in it is not as it should be, one table of
several bundles. Open `layout.py` first, then `bundle.py` and `verify.py`. Nothing here reaches torch.
"""
