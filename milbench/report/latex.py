"""LaTeX text: what a name or a caption becomes, with the fonts of texlive-latex-base."""

from __future__ import annotations

import unicodedata

from milbench.visible import visible_line

LATEX_SPECIAL = str.maketrans(
    {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}",
     "±": r"$\pm$", "×": r"$\times$", "–": "--", "−": r"$-$", "Δ": r"$\Delta$", "≥": r"$\geq$", "≤": r"$\leq$",
     "†": r"$^{\dagger}$", "µ": r"$\mu$", "²": r"$^2$", "↓": r"$\downarrow$"}
)  # fmt: skip


def latex(text: str) -> str:
    """`text` as LaTeX with the fonts of texlive-latex-base: special characters escaped, others named.

    Letters of Latin-1 pass; accented ones beyond it lose no accent (LaTeX composes them); Greek is set as math where
    LaTeX has a command; a hidden character becomes its escape and a line's end too; anything else becomes its code point,
    for a missing glyph would vanish without a word.
    """
    return "".join(_latex_character(character) for character in unicodedata.normalize("NFC", visible_line(text)))


_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "=", "\u0306": "u",
            "\u0307": ".", "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k"}  # fmt: skip


def _latex_character(character: str) -> str:
    escaped = LATEX_SPECIAL.get(ord(character))
    if escaped is not None:
        return str(escaped)
    if character.isascii():
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER ") or name.startswith("GREEK CAPITAL LETTER "):
        return _greek(name)
    return rf"\texttt{{U+{ord(character):04X}}}"


GREEK_LIKE_LATIN = {
    "ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K", "MU": "M",
    "NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X", "UPSILON": "Y",
}  # fmt: skip
"""Capitals that look as their Latin sisters and have no command of their own."""


def _greek(name: str) -> str:
    _, size, _, *rest = name.split()
    letter = {"LAMDA": "lambda"}.get(rest[0], rest[0].lower())
    if size == "CAPITAL":
        if rest[0] in GREEK_LIKE_LATIN:
            return GREEK_LIKE_LATIN[rest[0]]
        return rf"$\{letter.capitalize()}$"
    return {"omicron": "o", "final": r"$\varsigma$"}.get(letter, rf"$\{letter}$")
