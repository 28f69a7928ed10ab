"""Short instructions and everyday facts: translate a word, say it again, count, compare, name the opposite.

Small talk for a small model: it learns that an instruction is followed, briefly, and then the answer stops.
"""

from __future__ import annotations

from random import Random

from llmquiz.llm.data.corpus import words
from llmquiz.llm.data.corpus.document import Document, dialog
from llmquiz.llm.data.corpus.words import Word

Turn = tuple[str, str]

NAMED = {
    Word("a thing", "一样东西"): words.THINGS,
    Word("an animal", "一种动物"): words.ANIMALS,
    Word("a colour", "一种颜色"): words.COLOURS,
    Word("a place", "一个地方"): words.PLACES,
    Word("food", "食物"): words.FOODS,
}
OPPOSITES = words.parse(
    "big=大, small=小, hot=热, cold=冷, fast=快, slow=慢, high=高, low=低, new=新, old=旧, long=长, short=短, "
    "light=轻, heavy=重, full=满, empty=空, open=开, closed=关, day=白天, night=夜晚"
)
KNOWN = (
    (Word("What colour is the sky?", "天空是什么颜色的？"), Word("The sky is blue.", "天空是蓝色的。")),
    (Word("What colour is grass?", "草是什么颜色的？"), Word("Grass is green.", "草是绿色的。")),
    (Word("What colour is snow?", "雪是什么颜色的？"), Word("Snow is white.", "雪是白色的。")),
    (Word("How many legs does a dog have?", "狗有几条腿？"), Word("A dog has 4 legs.", "狗有 4 条腿。")),
    (Word("How many legs does a bird have?", "鸟有几条腿？"), Word("A bird has 2 legs.", "鸟有 2 条腿。")),
    (Word("How many days are in a week?", "一个星期有几天？"), Word("A week has 7 days.", "一个星期有 7 天。")),
    (Word("How many months are in a year?", "一年有几个月？"), Word("A year has 12 months.", "一年有 12 个月。")),
    (
        Word("What comes after Monday?", "星期一之后是什么？"),
        Word("Tuesday comes after Monday.", "星期一之后是星期二。"),
    ),
    (Word("What do we read?", "我们读什么？"), Word("We read books.", "我们读书。")),
    (Word("What do you drink from?", "用什么喝水？"), Word("You drink from a cup.", "用杯子喝水。")),
    (Word("Hello!", "你好！"), Word("Hello! How can I help you?", "你好！我能帮你什么？")),
    (Word("Thank you.", "谢谢。"), Word("You are welcome.", "不客气。")),
    (
        Word("Who are you?", "你是谁？"),
        Word("I am a small language model of llmquiz.", "我是 llmquiz 的一个小语言模型。"),
    ),
)


def facts(rng: Random, lang: str) -> Document:
    """One to three turns about unrelated things."""
    turns = [
        rng.choice((translate, repeat, count, category, opposite, known))(rng, lang) for _ in range(rng.randint(1, 3))
    ]
    return dialog(turns, "facts", lang)


def translate(rng: Random, lang: str) -> Turn:
    word = rng.choice(words.THINGS + words.ANIMALS + words.COLOURS + words.PLACES + words.FOODS)
    if lang == "en":
        return f"What is '{word.en}' in Chinese?", f"'{word.en}' is {word.zh}."
    return f"“{word.zh}”用英语怎么说？", f"“{word.zh}”是 {word.en}。"


def repeat(rng: Random, lang: str) -> Turn:
    said = [word(lang) for word in rng.sample(words.THINGS + words.ANIMALS + words.FOODS, rng.randint(2, 6))]
    text = ", ".join(said) if lang == "en" else "，".join(said)
    return (f"Repeat: {text}." if lang == "en" else f"请重复：{text}。"), text + ("." if lang == "en" else "。")


def count(rng: Random, lang: str) -> Turn:
    first = rng.randint(0, 20)
    last = first + rng.randint(2, 8)
    numbers = ", ".join(map(str, range(first, last + 1)))
    if lang == "en":
        return f"Count from {first} to {last}.", numbers + "."
    return f"从 {first} 数到 {last}。", numbers + "。"


def category(rng: Random, lang: str) -> Turn:
    kind, members = rng.choice(list(NAMED.items()))
    asked = rng.choice(list(NAMED))
    word = rng.choice(members)
    right = kind is asked
    if lang == "en":
        return f"Is '{word.en}' {asked.en}?", f"{'Yes' if right else 'No'}, '{word.en}' is {kind.en}."
    return f"“{word.zh}”是{asked.zh}吗？", f"{'是的' if right else '不是'}，“{word.zh}”是{kind.zh}。"


def opposite(rng: Random, lang: str) -> Turn:
    index = rng.randrange(len(OPPOSITES))
    word, other = OPPOSITES[index](lang), OPPOSITES[index ^ 1](lang)
    if lang == "en":
        return f"What is the opposite of {word}?", f"The opposite of {word} is {other}."
    return f"{word}的反义词是什么？", f"{word}的反义词是{other}。"


def known(rng: Random, lang: str) -> Turn:
    said, answer = rng.choice(KNOWN)
    return said(lang), answer(lang)
