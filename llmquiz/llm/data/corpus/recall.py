"""Recall: look a key up in what has just been said. The keys and values are drawn anew for each document.

Nothing can be memorised here, so the loss falls only once the model copies: find the earlier place where the key stood,
and repeat what followed it. Two attention layers suffice for that (induction heads: Olsson et al. 2022, section 3), and
they form at once, a visible drop of the loss. Stories need the same heads, so this kind is practice for them.
"""

from __future__ import annotations

from random import Random

from llmquiz.llm.data.corpus import words
from llmquiz.llm.data.corpus.document import CLOSE, OPEN, Document, dialog, document

NOUNS = words.THINGS + words.ANIMALS + words.FOODS + words.PLACES + words.COLOURS


def recalls(rng: Random, lang: str) -> Document:
    """A list said again, a table, sentences with numbers, or what people like."""
    return rng.choice((copies, copies, tables, codes, tastes))(rng, lang)


def copies(rng: Random, lang: str) -> Document:
    """A list of random words, said again once or twice: after its first word, all of the second pass can be known.

    The plainest form of looking up, with many answers in each document. Without it the heads formed much later.
    """
    pool = [thing(lang) for thing in NOUNS] if rng.random() < 0.7 else syllables(rng)
    said = rng.sample(pool, rng.randint(4, 12))
    mark, between = ("List:", " ") if lang == "en" else ("列表：", " ")
    line = between.join(said)
    again = "".join(
        f"\n{mark} {said[0]}{OPEN}{between}{between.join(said[1:])}{CLOSE}" for _ in range(rng.randint(1, 2))
    )
    return document(f"{mark} {line}{again}", "recall", lang)


def tables(rng: Random, lang: str) -> Document:
    """`Given: lamp = red; cup = blue; ...`, then some of the keys in another order."""
    pool = [thing(lang) for thing in words.THINGS + words.ANIMALS] if rng.random() < 0.6 else syllables(rng)
    keys = rng.sample(pool, rng.randint(3, 8))
    colours = [colour(lang) for colour in rng.sample(words.COLOURS, len(keys))]
    values = dict(zip(keys, colours if rng.random() < 0.5 else numbers(rng, len(keys)), strict=True))
    asked = rng.sample(keys, min(len(keys), rng.randint(2, 5)))
    first, then = ("Given:", "Then:") if lang == "en" else ("已知：", "那么：")
    given = ";".join(f" {key} = {value}" for key, value in values.items())
    found = ";".join(f" {key} ={OPEN} {values[key]}{CLOSE}" for key in asked)
    return document(f"{first}{given}.\n{then}{found}.", "recall", lang)


def codes(rng: Random, lang: str) -> Document:
    """Sentences that give each thing a number, and questions for some of them."""
    keys = rng.sample([thing(lang) for thing in words.THINGS], rng.randint(2, 5))
    values = dict(zip(keys, numbers(rng, len(keys)), strict=True))
    said = "The code of the {0} is {1}." if lang == "en" else "{0}的号码是 {1}。"
    ask = "What is the code of the {0}?" if lang == "en" else "{0}的号码是多少？"
    return conversation(rng, lang, [said.format(key, value) for key, value in values.items()], ask, said, values)


def tastes(rng: Random, lang: str) -> Document:
    """Who likes what."""
    keys = [person.name(lang) for person in rng.sample(words.PEOPLE, rng.randint(2, 5))]
    foods = rng.sample(words.FOODS, len(keys))
    values = {key: food(lang) for key, food in zip(keys, foods, strict=True)}
    said = "{0} likes {1}." if lang == "en" else "{0}喜欢{1}。"
    ask = "What does {0} like?" if lang == "en" else "{0}喜欢什么？"
    return conversation(rng, lang, [said.format(key, value) for key, value in values.items()], ask, said, values)


def conversation(
    rng: Random, lang: str, facts: list[str], ask: str, said: str, values: dict[str, str]
) -> Document:  # fmt: skip
    """The facts, then questions whose answers repeat one of them."""
    asked = rng.sample(list(values), rng.randint(1, min(3, len(values))))
    turns = [(ask.format(key), said.format(key, values[key])) for key in asked]
    gap = " " if lang == "en" else ""
    given = gap.join(facts)
    if rng.random() < 0.5:
        return dialog([(f"{given}\n{turns[0][0]}", turns[0][1]), *turns[1:]], "recall", lang)
    question, answer = ("Question:", "Answer:") if lang == "en" else ("问：", "答：")
    exam = [f"\n{question}{gap}{text}\n{answer}{OPEN}{gap}{reply}{CLOSE}" for text, reply in turns]
    return document(given + "".join(exam), "recall", lang)


def numbers(rng: Random, count: int) -> list[str]:
    """Different numbers below 100."""
    return [str(number) for number in rng.sample(range(100), count)]


def syllables(rng: Random) -> list[str]:
    """Words that mean nothing, so that only copying helps."""
    made = {rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") + rng.choice("bdgklmnprstxz") for _ in range(16)}
    return sorted(made)
