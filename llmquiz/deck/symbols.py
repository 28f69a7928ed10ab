"""Tables of the TeX subset: what each macro is in Unicode, and how it behaves between its neighbours."""

from __future__ import annotations

from enum import Enum


class Class(Enum):
    """What a symbol is in a formula, after TeX's own atom classes."""

    ORDINARY = "ordinary"
    ADDITIVE = "additive"  # binary, or a sign
    PRODUCT = "product"  # binary, binds tighter
    RELATION = "relation"
    BIG = "big"  # sum, integral: takes all that follows
    FUNCTION = "function"
    OPEN = "open"
    CLOSE = "close"
    PUNCTUATION = "punctuation"
    SPACE = "space"
    SLASH = "slash"


def _words(text: str) -> list[str]:
    return text.split()


def _table(text: str) -> dict[str, str]:
    words = _words(text)
    return dict(zip(words[::2], words[1::2], strict=True))


GREEK = _table(
    r"""\alpha α \beta β \gamma γ \delta δ \epsilon ε \varepsilon ε \zeta ζ \eta η \theta θ \vartheta ϑ \iota ι \kappa κ
    \lambda λ \mu μ \nu ν \xi ξ \omicron ο \pi π \varpi ϖ \rho ρ \varrho ϱ \sigma σ \varsigma ς \tau τ \upsilon υ \phi φ
    \varphi φ \chi χ \psi ψ \omega ω \Gamma Γ \Delta Δ \Theta Θ \Lambda Λ \Xi Ξ \Pi Π \Sigma Σ \Upsilon Υ \Phi Φ \Psi Ψ
    \Omega Ω"""
)
ORDINARY = _table(
    r"""\infty ∞ \partial ∂ \nabla ∇ \ell ℓ \hbar ℏ \emptyset ∅ \varnothing ∅ \forall ∀ \exists ∃ \neg ¬ \lnot ¬ \top ⊤
    \bot ⊥ \prime ′ \circ ∘ \dagger † \star ⋆ \ast ∗ \bullet • \degree ° \ldots … \dots … \cdots ⋯ \vdots ⋮ \ddots ⋱
    \Re ℜ \Im ℑ \aleph ℵ \% % \_ _ \# # \$ $ \& & \| ‖ \Vert ‖ \vert | \backslash \ \checkmark ✓ \imath ı \jmath ȷ"""
)
ADDITIVE = _table(
    r"+ + - − − − \pm ± \mp ∓ \oplus ⊕ \ominus ⊖ \cup ∪ \cap ∩ \setminus ∖ \lor ∨ \vee ∨ \land ∧ \wedge ∧"
)
PRODUCTS = _table(r"* ∗ \cdot · \times × \odot ⊙ \otimes ⊗ \div ÷ \bmod mod")
RELATIONS = _table(
    r"""= = < < > > \le ≤ \leq ≤ \leqslant ≤ \ge ≥ \geq ≥ \geqslant ≥ \ne ≠ \neq ≠ \approx ≈ \sim ∼ \simeq ≃ \cong ≅
    \equiv ≡ \propto ∝ \in ∈ \notin ∉ \ni ∋ \subset ⊂ \subseteq ⊆ \supset ⊃ \supseteq ⊇ \to → \rightarrow → \gets ←
    \leftarrow ← \leftrightarrow ↔ \Rightarrow ⇒ \implies ⇒ \Leftarrow ⇐ \Leftrightarrow ⇔ \iff ⇔ \mapsto ↦
    \longrightarrow ⟶ \uparrow ↑ \downarrow ↓ \mid | \parallel ∥ \perp ⊥ \ll ≪ \gg ≫ \lesssim ≲ \gtrsim ≳ \prec ≺
    \succ ≻ \models ⊨ \vdash ⊢ \coloneqq ≔ \triangleq ≜"""
)
BIG = _table(
    r"""\sum ∑ \prod ∏ \int ∫ \iint ∬ \oint ∮ \bigcup ⋃ \bigcap ⋂ \bigoplus ⨁ \bigotimes ⨂ \bigvee ⋁ \bigwedge ⋀
    \coprod ∐"""
)
FUNCTIONS = {
    f"\\{name}": name
    for name in _words(
        """log ln lg exp max min sup inf arg sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan det dim
        ker deg gcd Pr lim hom"""
    )
} | {r"\limsup": "lim sup", r"\liminf": "lim inf"}
OPENING = _table(r"( ( [ [ \{ { \lbrace { \lbrack [ \langle ⟨ \lfloor ⌊ \lceil ⌈ \lvert | \lVert ‖ \lparen (")
CLOSING = _table(r") ) ] ] \} } \rbrace } \rbrack ] \rangle ⟩ \rfloor ⌋ \rceil ⌉ \rvert | \rVert ‖ \rparen )")
PUNCTUATION = {",": ",", ";": ";", r"\colon": ":"}
SPACES = {
    r"\,": " ",
    r"\:": " ",
    r"\>": " ",
    r"\;": " ",
    r"\ ": " ",
    "~": " ",
    r"\quad": "  ",
    r"\qquad": "  ",
    r"\!": "",
    r"\space": " ",
}
IGNORED = frozenset(
    rf"\{name}"
    for name in _words(
        """displaystyle textstyle scriptstyle limits nolimits big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr
        Biggr bigm Bigm"""
    )
)

CLASSES: dict[str, tuple[Class, str]] = (
    {name: (Class.ORDINARY, text) for name, text in (GREEK | ORDINARY).items()}
    | {name: (Class.ADDITIVE, text) for name, text in ADDITIVE.items()}
    | {name: (Class.PRODUCT, text) for name, text in PRODUCTS.items()}
    | {name: (Class.RELATION, text) for name, text in RELATIONS.items()}
    | {name: (Class.BIG, text) for name, text in BIG.items()}
    | {name: (Class.FUNCTION, text) for name, text in FUNCTIONS.items()}
    | {name: (Class.OPEN, text) for name, text in OPENING.items()}
    | {name: (Class.CLOSE, text) for name, text in CLOSING.items()}
    | {name: (Class.PUNCTUATION, text) for name, text in PUNCTUATION.items()}
    | {name: (Class.SPACE, text) for name, text in SPACES.items()}
    | {"/": (Class.SLASH, "/")}
)

ACCENTS = {
    r"\hat": "\u0302",
    r"\widehat": "\u0302",
    r"\bar": "\u0304",
    r"\overline": "\u0304",
    r"\tilde": "\u0303",
    r"\widetilde": "\u0303",
    r"\vec": "\u20d7",
    r"\dot": "\u0307",
    r"\ddot": "\u0308",
    r"\check": "\u030c",
}
TEXT_MACROS = frozenset({r"\text", r"\textrm", r"\textit", r"\textbf", r"\texttt", r"\mathrm", r"\mbox"})
STYLE_MACROS = frozenset({r"\mathbf", r"\boldsymbol", r"\bm", r"\mathit", r"\mathsf", r"\mathtt", r"\mathnormal"})
ENVIRONMENTS = frozenset(
    _words("""cases matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix aligned align align* split gathered""")
)

# The letterlike block came first; the mathematical alphabets leave holes where it already had the letter.
_DOUBLE_HOLES = dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True))
_SCRIPT_HOLES = dict(zip("BEFHILMR", "ℬℰℱℋℐℒℳℛ", strict=True))


def double_struck(letter: str) -> str:
    """The blackboard-bold form of a letter or digit; itself where there is none."""
    if "A" <= letter <= "Z":
        return _DOUBLE_HOLES.get(letter) or chr(0x1D538 + ord(letter) - ord("A"))
    return chr(0x1D7D8 + ord(letter) - ord("0")) if "0" <= letter <= "9" else letter


def script(letter: str) -> str:
    """The calligraphic form of a capital letter; itself where there is none."""
    if "A" <= letter <= "Z":
        return _SCRIPT_HOLES.get(letter) or chr(0x1D49C + ord(letter) - ord("A"))
    return letter


SUBSCRIPTS = dict(zip("0123456789+−-=()aehijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True))
SUPERSCRIPTS = dict(
    zip(
        "0123456789+−-=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVWβγδθφχ⊤′",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵝᵞᵟᶿᵠᵡᵀ′",
        strict=True,
    )
)
AS_WRITTEN_SUPERSCRIPTS = {"∗": "*", "⋆": "⋆", "†": "†", "°": "°", "∘": "°"}
