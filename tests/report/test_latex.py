"""Text in LaTeX: nothing is taken for markup, and no letter vanishes."""

from milbench.report.latex import latex


def test_special_characters_are_escaped() -> None:
    assert latex(r"A_B & 5% {x} #1 ~ \y") == r"A\_B \& 5\% \{x\} \#1 \textasciitilde{} \textbackslash{}y"


def test_letters_keep_their_accents_and_what_latex_lacks_is_named() -> None:
    assert latex("é Ż ą") == r"\'{e} \.{Z} \k{a}"
    assert latex("β Ω Β") == r"$\beta$ $\Omega$ B"
    assert latex("肺") == r"\texttt{U+80BA}"
