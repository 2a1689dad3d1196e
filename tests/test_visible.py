"""What is printed hides no character, and an ordinary name stays as it is."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from names_for_tests import NAMES

from milbench.visible import visible, visible_line

ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@settings(deadline=None)
@given(NAMES)
def test_printed_text_holds_no_control_character_but_the_line_end(name: str) -> None:
    kinds = {unicodedata.category(each) for each in visible(name) if each not in "\n\u200c\u200d"}
    assert not kinds & ACTING
    assert "\n" not in visible_line(name)
    visible(name).encode()  # a file name that is no UTF-8 has halves of characters, which no stream takes


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=list(ACTING))))
def test_ordinary_text_stays_as_it_is(name: str) -> None:
    assert visible_line(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2J", r"a\x1b[2J"),
        ("bell\a and nul\0", r"bell\x07 and nul\x00"),
        ("exe\u202egpj", r"exe\u202egpj"),
        ("\x9b31m", r"\x9b31m"),
        ("tab\there\r", r"tab\there\r"),
        ("first\nsecond", "first\nsecond"),
        ("no UTF-8 \udce9", r"no UTF-8 \udce9"),
        ("می\u200cروم", "می\u200cروم"),
        ("Ångström 肺腺癌 é", "Ångström 肺腺癌 é"),
    ],
)
def test_a_hidden_character_is_shown_as_its_escape(name: str, shown: str) -> None:
    assert visible(name) == shown
