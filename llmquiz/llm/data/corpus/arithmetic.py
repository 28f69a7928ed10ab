"""Arithmetic that a small model can learn: sums and differences within 40, the table of 9, comparing, word problems.

Word problems answer with the calculation first and the sentence after it. The step that is written down need not be
done in the head: the same reason why a chain of thought helps large models (Wei et al. 2022, section 2).
"""

from __future__ import annotations

from random import Random

from llmquiz.llm.data.corpus import words
from llmquiz.llm.data.corpus.document import CLOSE, OPEN, Document, dialog, document

Calculation = tuple[int, str, int, int]  # left, sign, right, result


def arithmetics(rng: Random, lang: str) -> Document:
    """Bare calculations, questions about them, or a word problem."""
    return rng.choice((sheet, spoken, spoken, problem))(rng, lang)


def calculation(rng: Random) -> Calculation:
    """Small numbers more often than larger ones."""
    sign, most = rng.choice("++--×"), rng.choice((10, 10, 20))
    if sign == "×":
        left, right = rng.randint(0, 9), rng.randint(0, 9)
        return left, sign, right, left * right
    left, right = rng.randint(0, most), rng.randint(0, most)
    if sign == "+":
        return left, sign, right, left + right
    left, right = max(left, right), min(left, right)
    return left, sign, right, left - right


def sheet(rng: Random, lang: str) -> Document:
    """A line each: `3 + 4 = 7`."""
    lines = [
        f"{a} {sign} {b} ={OPEN} {c}{CLOSE}" for a, sign, b, c in (calculation(rng) for _ in range(rng.randint(4, 9)))
    ]
    return document("\n".join(lines), "arithmetic", lang)


def spoken(rng: Random, lang: str) -> Document:
    """Questions in words, answered by the whole calculation."""
    return dialog([question(rng, lang) for _ in range(rng.randint(1, 4))], "arithmetic", lang)


def question(rng: Random, lang: str) -> tuple[str, str]:
    stop = "." if lang == "en" else "。"
    if rng.random() < 0.2:
        a, b = rng.sample(range(50), 2)
        ask = f"Which is larger, {a} or {b}?" if lang == "en" else f"{a} 和 {b} 哪个大？"
        return ask, (f"{max(a, b)} is larger." if lang == "en" else f"{max(a, b)} 更大。")
    a, sign, b, c = calculation(rng)
    names = {"+": ("plus", "加"), "-": ("minus", "减"), "×": ("times", "乘")}[sign]
    english = (f"What is {a} {sign} {b}?", f"How much is {a} {names[0]} {b}?", f"{a} {sign} {b} = ?")
    chinese = (f"{a} {sign} {b} 等于多少？", f"{a} {names[1]} {b} 等于几？", f"{a} {sign} {b} = ？")
    return rng.choice(english if lang == "en" else chinese), f"{a} {sign} {b} = {c}{stop}"


def problem(rng: Random, lang: str) -> Document:
    """Someone has some, and gets or gives away a few."""
    who, friend = (person.name(lang) for person in rng.sample(words.PEOPLE, 2))
    thing, a, b = rng.choice(words.THINGS)(lang), rng.randint(1, 10), rng.randint(1, 10)
    things = {"box": "boxes", "brush": "brushes"}.get(thing, thing + "s")
    gets = rng.random() < 0.5
    a, b = (a, b) if gets else (max(a, b), min(a, b))
    c, sign = (a + b, "+") if gets else (a - b, "-")
    if lang == "en":
        change = f"{friend} gives {who} {b} more." if gets else f"{who} gives {b} to {friend}."
        said = f"{who} has {a} {things}. {change} How many {things} does {who} have now?"
        answer = f"{a} {sign} {b} = {c}. {who} has {c} {things}."
    else:
        change = f"{friend}又给了{who} {b} 个。" if gets else f"{who}给了{friend} {b} 个。"
        said = f"{who}有 {a} 个{thing}。{change}{who}现在有几个{thing}？"
        answer = f"{a} {sign} {b} = {c}。{who}有 {c} 个{thing}。"
    return dialog([(said, answer)], "arithmetic", lang)
