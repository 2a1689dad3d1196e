"""Store: the run folder on disk.

In: finished trials, failures and a run's description. Out: the same, verified by checksum, however often a process was
killed in between. It knows no training and reaches no torch. Open `run_folder.py` first: its docstring draws the folder.
`Run` in `run.py` reads it, and `run_writing.py` is all that changes it. `trial.py` is one trial's folder, `slot.py` its place
in the grid. `files.py` writes whole files or none. `claims.py` says who computes which trial right now.
"""
