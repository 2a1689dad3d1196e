"""Names that somebody wrote to do harm."""

from hypothesis import strategies as st

WILD = "\x1b]0;owned\x07\u202eexe.gpj\x9b31m\r=1+1"
"""Sets a terminal's title, rings, turns letters round, colours, and hides its own beginning."""

SPICES = ["=", "+", "-", "@", "\t", "\r", "\n", "'", '"', "\\", "\\x1b", "\x1b[2J", "\a", "\x00", "\x7f", "\x9b", "\u202e", "\u2066",
          "\u2028", "\ud800", "\U000e0041", "\uff1d", ",", ";", " ", "0.012", "1e5", "cmd|' /C calc'!A0"]  # fmt: skip

NAMES = st.lists(st.sampled_from(SPICES) | st.text(st.characters(), max_size=4), max_size=6).map("".join)
"""Any text, with what harms much more often than chance would bring it; lone surrogates as in names of odd files."""
