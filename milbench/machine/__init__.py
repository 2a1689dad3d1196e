"""Machine: what this computer gives.

In: nothing, or what a user wrote. Out: cores and devices (`hardware.py`, open it first), peak memory, sizes in bytes, and
how the C library keeps freed memory in a process that trains.
"""
