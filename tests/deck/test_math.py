"""Formulas as a terminal shows them: precedence survives the flat line, and unknown macros are named."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmquiz.deck.math import MathError, UnknownMacroError, escape, render_markdown, to_unicode


@pytest.mark.parametrize(
    ("tex", "shown"),
    [
        (r"\frac{a}{b}", "a/b"),
        (r"\frac{a+b}{c+d}", "(a + b)/(c + d)"),
        (r"\frac{ab}{cd}", "ab/(cd)"),
        (r"\frac{2 \cdot n}{d}", "(2 · n)/d"),
        (r"\frac{\frac{a}{b}}{\frac{c}{d}}", "(a/b)/(c/d)"),
        (r"\frac{\log x}{y}", "(log x)/y"),
        (r"\frac{-x}{2}", "(−x)/2"),
        (r"\frac{1}{n}\sum_{i=1}^n x_i", "(1/n) ∑ᵢ₌₁ⁿ xᵢ"),
        (r"2\frac{a}{b}", "2(a/b)"),
        (r"x/\frac{a}{b}", "x/(a/b)"),
        (r"\frac{a}{b}^2", "(a/b)²"),
        (r"x - \frac{a}{b}", "x − a/b"),
        (r"y \odot \frac{a}{b}", "y ⊙ (a/b)"),
        (r"\frac{\exp(x_i)}{\sum_j \exp(x_j)}", "exp(xᵢ)/(∑ⱼ exp(xⱼ))"),
        (r"\frac{p(y \mid x)}{q(x)}", "p(y | x)/q(x)"),
        (r"\frac{1}{a(b+c)}", "1/(a(b + c))"),
        (r"\frac{1}{|D|}", "1/|D|"),
        (r"\sqrt{d_k}", "√dₖ"),
        (r"\sqrt{x+y}", "√(x + y)"),
        (r"\sqrt{x^2}", "√(x²)"),
        (r"\sqrt{2}x", "(√2)x"),
        (r"\sqrt[3]{x}", "∛x"),
        (r"\sqrt[n]{x}", "ⁿ√x"),
        (r"\sqrt{x}^2", "(√x)²"),
        (r"{a+b}^2", "(a + b)²"),
        (r"(a+b)^2", "(a + b)²"),
        (r"x_{t+1}", "xₜ₊₁"),
        (r"d_{\text{model}}", "d_model"),
        (r"d_{\text{model}}x", "d_model x"),
        (r"d_{\text{in}} + n_{kv}", "d_in + nₖᵥ"),
        (r"d_{\text{model}}^2", "d_{model}²"),
        (r"x_{a,b}^{c}", "x_{a,b}ᶜ"),
        (r"x^{a+b}", "xᵃ⁺ᵇ"),
        (r"e^{-x^2}", "e^(−x²)"),
        (r"x^Q", "x^Q"),
        (r"10^{-6}", "10⁻⁶"),
        (r"K^\top", "Kᵀ"),
        (r"f'(x)", "f′(x)"),
        (r"\pi^*", "π*"),
        (r"\log_2 n", "log₂ n"),
        (r"\max_{a'} Q(s', a')", "max_{a′} Q(s′, a′)"),
        (r"\operatorname*{arg\,max}_a x", "arg max_a x"),
        (r"\log\log n", "log log n"),
        (r"a - b", "a − b"),
        (r"-a", "−a"),
        (r"a = -b", "a = −b"),
        (r"a \times (-b)", "a × (−b)"),
        (r"a\le b\ll c", "a ≤ b ≪ c"),
        (r"a \to b \mapsto c", "a → b ↦ c"),
        (r"\|x\|_2^2", "‖x‖₂²"),
        (r"\lVert W x\rVert", "‖W x‖"),
        (r"\left\lfloor \frac{n}{2} \right\rfloor", "⌊n/2⌋"),
        (r"\left\{ a \;\middle|\; b \right\}", "{a | b}"),
        (r"\left. f \right|_{x=0}", "f|ₓ₌₀"),
        (r"[0, 1)", "[0, 1)"),
        (r"\{1, 2, \ldots, n\}", "{1, 2, …, n}"),
        (r"\hat{A}_t", "A\u0302ₜ"),
        (r"\overline{xy}", "overline(xy)"),
        (r"\mathbb{E}_{x \sim p}[x]", "𝔼_{x∼p}[x]"),
        (r"\mathcal{L}(\theta)", "ℒ(θ)"),
        (r"\mathbf{W}\mathit{x}", "Wx"),
        (r"\text{KV cache} = 2", "KV cache = 2"),
        (r"5\%", "5%"),
        (r"a\_b", "a_b"),
        (r"163{,}840", "163,840"),
        (r"n \bmod m", "n mod m"),
        (r"\binom{n}{k}", "C(n, k)"),
        (r"a \quad b", "a  b"),
        (r"a\,b", "a b"),
        (r"\begin{cases} x & x > 0 \\ 0 & \text{otherwise} \end{cases}", "{x, x > 0; 0, otherwise}"),
        (r"\begin{bmatrix} a & b \\ c & d \end{bmatrix}", "[a, b; c, d]"),
        (r"\begin{aligned} a &= b \\ &= c \end{aligned}", "a = b\n= c"),
        (
            r"\mathrm{softmax}\left(\frac{QK^\top}{\sqrt{d_k}}\right)V",
            "softmax(QKᵀ/√dₖ)V",
        ),
        (
            r"-\log\sigma\left(\beta\log\frac{\pi_\theta(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)}\right)",
            "−log σ(β log(π_θ(y_w | x)/π_ref(y_w | x)))",
        ),
    ],
)
def test_shows_formulas_on_one_line(tex: str, shown: str) -> None:
    assert to_unicode(tex) == shown


@pytest.mark.parametrize("tex", [r"\foo", r"\frac{\argmax}{b}", r"\text{\bar}", r"x_{\qux}", r"\def\x{}", r"\input{x}"])
def test_names_the_macro_that_it_does_not_know(tex: str) -> None:
    with pytest.raises(UnknownMacroError) as caught:
        to_unicode(tex)
    assert caught.value.macro.startswith("\\")
    assert caught.value.macro in str(caught.value)


@pytest.mark.parametrize(
    "tex",
    [r"\frac{a", "a}", r"\left( x", r"x \right)", "x^", "x_1_2", r"\begin{cases} a", r"\begin{tabular}a\end{tabular}"],
)
def test_refuses_what_does_not_match(tex: str) -> None:
    with pytest.raises(MathError):
        to_unicode(tex)


@pytest.mark.parametrize(
    "tex",
    ["{" * 2_000, "(" * 2_000, r"\sqrt" * 400, "x_{" * 600, r"\frac" * 400, r"\left(" * 300, "'" * 2_000, "a|" * 1_000],
)
def test_hostile_formulas_end_soon(tex: str) -> None:
    start = time.process_time()
    with contextlib.suppress(MathError):
        to_unicode(tex)
    assert time.process_time() - start < 1


@given(st.text("abxyαβ012 +-=^_{}()[]|\\,.&'*/<>", max_size=60))
def test_any_text_is_shown_or_refused(tex: str) -> None:
    with contextlib.suppress(MathError):
        to_unicode(tex)


ARITHMETIC = st.recursive(
    st.integers(1, 9).map(lambda number: (str(number), str(number))),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda it: (rf"\frac{{{it[0][0]}}}{{{it[1][0]}}}", f"(({it[0][1]})/({it[1][1]}))")),
        st.tuples(inner, inner).map(lambda it: (rf"{it[0][0]} + {it[1][0]}", f"{it[0][1]}+{it[1][1]}")),
        st.tuples(inner, inner).map(lambda it: (rf"({it[0][0]}) - ({it[1][0]})", f"({it[0][1]})-({it[1][1]})")),
        st.tuples(inner, inner).map(lambda it: (rf"({it[0][0]}) \cdot ({it[1][0]})", f"({it[0][1]})*({it[1][1]})")),
        inner.map(lambda it: (rf"\sqrt{{{it[0]}}}", f"(({it[1]})**0.5)")),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(ARITHMETIC)
def test_the_flat_line_keeps_the_value(pair: tuple[str, str]) -> None:
    tex, python = pair
    shown = to_unicode(tex)
    read = shown.replace("−", "-").replace("·", "*").replace("√", "root**")
    try:
        expected = eval(python)
    except ZeroDivisionError:
        return
    if isinstance(expected, complex):
        return
    assert eval(read, {"root": _Root()}) == pytest.approx(expected)


class _Root:
    """`root**x` is the root of x, binding as tightly as the sign that it stands for."""

    def __pow__(self, value: float) -> float:
        return value**0.5


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("$5 and $6", "$5 and $6"),
        ("$5 and $x$", "$5 and x"),
        ("a $ x$", "a $ x$"),
        ("a $x $", "a $x $"),
        ("a $x$5", "a $x$5"),
        (r"\$x$", r"\$x$"),
        ("`$x_i$` $x_i$", "`$x_i$` xᵢ"),
        ("``a ` $x$`` $y$", "``a ` $x$`` y"),
        ("```\n$x$\n```\n$y$", "```\n$x$\n```\ny"),
        ("a ` $x$", "a ` x"),
        ("$x\n\ny$", "$x\n\ny$"),
        ("$$\n\\frac{a}{b}\n$$", "a/b"),
        (r"$a*b*c$ and $d_{\text{model}}$", r"a ∗ b ∗ c and d\_model"),
        (r"$\foo_1$", r"` $\foo_1$ `"),
        (r"$\begin{aligned} a &= b \\ c &= d \end{aligned}$", "a = b\\\nc = d"),
    ],
)
def test_replaces_formulas_outside_code(markdown: str, shown: str) -> None:
    assert render_markdown(markdown) == shown


@given(st.text("ab*_`[]()<>#+-=!|~&;\\.1234567890{}:/ \n中αx", min_size=1, max_size=40).map(str.strip).filter(bool))
def test_escaped_text_reads_as_itself(text: str) -> None:
    text = " ".join(text.split())
    tokens = MarkdownIt("commonmark").parse(escape(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert "".join(child.content for child in children) == text


@given(st.text("a1 $`\\\n{}", max_size=60))
def test_markdown_without_formulas_is_left_alone(markdown: str) -> None:
    if markdown.count("$") < 2:
        assert render_markdown(markdown) == markdown.replace("\r", "")


def test_long_markdown_takes_linear_time() -> None:
    start = time.process_time()
    for text in ("$`" * 50_000, "$a " * 50_000, "`" * 100_000, "``` `" * 20_000, "$$ " * 30_000):
        render_markdown(text)
    assert time.process_time() - start < 5
