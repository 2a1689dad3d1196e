"""Process: what all code of one process shares, kept from what a plug-in does to it.

In: a block of code of others. Out: what it changed, put back (`shared_state.py`, open it first), the random numbers of
NumPy and Python (`generators.py`), and an error if it ends the process or does not come back (`must_return.py`).

Beside it: how many cores and how much memory the process may use (`cores.py`, `memory.py`), tasks of ours shared out among copies of it
(`forked.py`), what copies tell it (`told.py`), modules that are loaded when they are used (`lazily.py`), and children that Ctrl-C does
not reach (`signals.py`).
"""
