"""Durations in seconds, as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Duration in words, such as "42 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
