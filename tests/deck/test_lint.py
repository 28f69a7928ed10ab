"""Each rule of the rubric finds the fault it is for, says how to mend it, and leaves a good card alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from llmquiz.core.card import Deck, Lang
from llmquiz.deck import rules_deck
from llmquiz.deck.finding import Finding, Severity
from llmquiz.deck.lint import RULES, lint
from llmquiz.deck.parse import parse_texts
from llmquiz.deck.rules_deck import similar_fronts

EN = """\
# Title

## Why divide scores by $\\sqrt{d_k}$? {#scale topic=attention lab=attn lab.heads=4 as-of=2026-06-01}

Because their variance is $d_k$, and softmax saturates: 75% of the mass on one key.

The cache takes 128 KiB per token.

```python
x = 1  # comment
```

### Symbols
- $d_k$: width of one head

### Key points
- variance grows with width
- softmax saturates
- limit: learned scales also work

### Pitfall
Normalising by 64 heads.

### Follow-ups
- other

### Checks
- `1 - 8/32` = 75%
- `2 * 32 * 8 * 128 * 2` = 128 KiB

### Sources
- Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>

## Which option holds the size? {#other topic=attention kind=choice}

The second one, by definition.

### Choices
- [ ] one
  Counts heads.
- [x] two
- [ ] three
  Counts layers.
- [ ] four
  Counts tokens.

### Follow-ups
- scale

### Sources
- <https://example.org/x>
"""

ZH = """\
# 标题

## 为什么分数要除以 $\\sqrt{d_k}$？ {#scale}

因为方差（variance）是 $d_k$，softmax 会饱和：75% 的权重落在一个键上。

缓存每个 token 占 128 KiB。

```python
x = 1  # 注释
```

### 符号
- $d_k$：单个头的宽度

### 要点
- 方差随宽度增长
- softmax 饱和
- 局限：可学习的缩放也行

### 误区
按 64 个头归一化。

## 哪个选项是大小？ {#other}

按定义是第二个。

### 选项
- [ ] 甲
  数了头。
- [x] 乙
- [ ] 丙
  数了层。
- [ ] 丁
  数了 token。
"""


@dataclass(frozen=True)
class FakeLab:
    """A lab with one whole-number parameter."""

    metrics: tuple[str, ...] = ("latency",)
    params: Mapping[str, str] = field(default_factory=dict)

    def check_params(self, raw: Mapping[str, str]) -> list[str]:
        return [f"parameter '{name}' is unknown" for name in raw if name != "heads"]


LABS = {"attn": FakeLab()}
TODAY = date(2026, 11, 22)


def deck_of(en: str = EN, zh: str | None = ZH, *, builtin: bool = True, name: str = "deck") -> Deck:
    texts = {Lang.EN: en} | ({Lang.ZH: zh} if zh else {})
    return parse_texts(texts, {lang: Path(f"{name}.{lang}.md") for lang in texts}, builtin=builtin)


def findings_of(en: str = EN, zh: str | None = ZH, *, builtin: bool = True) -> list[Finding]:
    return lint([deck_of(en, zh, builtin=builtin)], LABS, known_topics={"attention"}, today=TODAY)


def test_a_good_deck_has_no_findings() -> None:
    assert findings_of() == []


EN_FAULTS = [
    ("S01", "by $\\sqrt{d_k}$?", "by $\\sqrt{d_k}$? How?", "2 question marks"),
    ("S01", "by $\\sqrt{d_k}$?", "by $\\sqrt{d_k}$", "0 question marks"),
    ("S01", "Why divide scores by", "Why divide scores and why by", "asks two things"),
    ("S01", "Why divide", "Why " + "really " * 25 + "divide", "at most 25"),
    ("S02", "Why divide", "Describe why to divide", "'Describe'"),
    ("S04", "Because", "Because " + "so " * 40, "short answer of"),
    ("S05", "- softmax saturates\n", "", "2 key points"),
    ("S05", "- softmax saturates\n", "- softmax " + "very " * 25 + "\n", "key point 2 of 26 words"),
    ("S06", "= 75%", "= 74%", "but the card says 74%"),
    ("S06", "128 KiB per token", "128 KiB per token, 9 ms", "'9 ms' is in no check"),
    ("S06", "128 KiB per token", "129 KiB per token", "'129 KiB"),
    ("S07", "variance is $d_k$", "variance is $d_k \\sigma$", "$σ$"),
    ("S07", "variance is $d_k$", "variance is $d_k + d_v$", "$d_v$"),
    ("S09", "topic=attention lab", "topic=attentoin lab", "did you mean 'attention'"),
    ("S09", "- Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>", "- Vaswani", "no source with a link"),
    ("S10", "as-of=2026-06-01", "as-of=2026-05-01", "over six months"),
    ("S10", "as-of=2026-06-01", "as-of=2026-12-01", "in the future"),
    ("S10", "second one", "latest one", "'latest' ages"),
    ("S12", "### Follow-ups\n- other\n\n", "", "0 follow-ups"),
    ("S12", "- other\n\n### Checks", "- othr\n\n### Checks", "did you mean 'other'"),
    ("S12", "- other\n\n### Checks", "- scale\n\n### Checks", "its own follow-up"),
    ("S13", "  Counts heads.\n", "", "option 1 does not say"),
    ("S13", "- [ ] three", "- [ ] one", "the same"),
    ("S13", "- [x] two", "- [x] two of the many many words", "1.5 times"),
    ("L01", "lab=attn", "lab=attm", "did you mean 'attn'"),
    ("L03", "lab.heads=4", "lab.depth=4", "parameter 'depth' is unknown"),
    ("M01", "$d_k$, and", "$d_k \\foo$, and", "'\\foo'"),
]


@pytest.mark.parametrize(("rule", "old", "new", "words"), EN_FAULTS)
def test_finds_the_fault(rule: str, old: str, new: str, words: str) -> None:
    assert old in EN
    found = [finding for finding in findings_of(EN.replace(old, new, 1)) if finding.rule == rule]
    assert any(words in finding.problem for finding in found), found
    assert {finding.severity for finding in found} == {Severity.ERROR}


ZH_FAULTS = [
    ("S01", "为什么分数", "为什么分数以及权重", "'以及'"),
    ("S01", "为什么分数", "为什么" + "很" * 40 + "分数", "characters"),
    ("S02", "为什么分数", "有哪些分数", "'有哪些'"),
    ("S04", "因为方差", "因为" + "很" * 80 + "方差", "at most 80"),
    ("S10", "按定义", "目前按定义", "'目前'"),
    ("S14", "128 KiB", "256 KiB", "256"),
    ("S14", "128 KiB", "若干内存", "missing: 128"),
    ("S14", "- softmax 饱和\n", "", "2 key points here, 3"),
    ("S14", "x = 1", "x = 2", "code differs"),
    ("S14", "除以 $\\sqrt{d_k}$", "除以 $\\sqrt{d_v}$", "d_v"),
    ("S14", "- [x] 乙\n- [ ] 丙\n  数了层。", "- [ ] 乙\n  数了层。\n- [x] 丙", "another option is right"),
    ("S14", "- [ ] 丁\n  数了 token。\n", "", "3 options here, 4"),
    ("S14", "### 误区\n按 64 个头归一化。\n\n", "", "pitfall"),
]


@pytest.mark.parametrize(("rule", "old", "new", "words"), ZH_FAULTS)
def test_finds_the_fault_in_chinese_and_points_at_that_file(rule: str, old: str, new: str, words: str) -> None:
    assert old in ZH
    found = [finding for finding in findings_of(zh=ZH.replace(old, new, 1)) if finding.rule == rule]
    assert any(words in finding.problem and finding.place.path.name == "deck.zh.md" for finding in found), found


def test_a_metric_that_the_lab_lacks_is_found() -> None:
    en = EN.replace("lab=attn", "kind=predict metric=speed lab=attn", 1)
    assert "it reports latency" in next(it for it in findings_of(en) if it.rule == "L02").problem


def test_wording_only_warns_in_a_users_deck_but_a_wrong_number_does_not() -> None:
    en = EN.replace("Why divide", "Explain and divide").replace("= 75%", "= 74%", 1)
    severities = {finding.rule: finding.severity for finding in findings_of(en, None, builtin=False)}
    assert severities["S02"] is Severity.WARNING
    assert severities["S06"] is Severity.ERROR


def test_a_users_deck_needs_no_sources_and_no_follow_ups() -> None:
    en = "# Mine\n\n## Why? {#why topic=attention}\n\nSo.\n\n### Key points\n- a\n- b\n- c\n"
    assert findings_of(en, None, builtin=False) == []


def test_numbers_may_be_words_in_the_other_language() -> None:
    assert findings_of(EN.replace("on one key", "on 2 keys", 1), ZH.replace("一个键", "两个键", 1)) == []


@pytest.mark.parametrize(
    "text",
    [
        "In 2017 the paper had 8 heads and 64 layers.",
        "Llama 3 8B and Qwen3-32B are models; so is a 7B model.",
        "The 1990s had none. See section 3.2.1.",
        "`128 ms` and `x = 75%` are code.",
        "Shape 2 × 32 × 8, or 4×d.",
        "100% or 0%.",
    ],
)
def test_numbers_that_need_no_check(text: str) -> None:
    found = [it for it in findings_of(EN.replace("The cache takes 128 KiB per token.", text), None) if it.rule == "S06"]
    assert found == []


@pytest.mark.parametrize(
    "text", ["9 ms", "12%", "3.35 TB/s", "2.6×", "989 TFLOP/s", "13B parameters", "7 billion parameters", "40 tokens/s"]
)
def test_numbers_that_need_a_check(text: str) -> None:
    found = [it for it in findings_of(EN.replace("128 KiB per token.", f"{text}."), None) if it.rule == "S06"]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("formula", "missing"),
    [
        ("\\sum_{i=1}^{n} x_i", {"n", "x_i"}),
        ("\\mathbb{E}_{x \\sim p}[f(x)]", {"f", "p"}),
        ("e^{-x} + \\pi + O(n)", {"n", "x"}),
        ("\\pi_\\theta(y)", {"y", "π_θ"}),
        ("K^T W^Q", {"K", "W"}),
        ("\\int f(x)\\,dx", {"f", "x"}),
        ("\\log \\max \\operatorname{softmax}(\\text{new})", set()),
        ("d_{\\text{model}}", {"d_{model}"}),
    ],
)
def test_which_symbols_need_a_definition(formula: str, missing: set[str]) -> None:
    en = f"# T\n\n## Q? {{#q topic=attention}}\n\n${formula}$.\n"
    found = [it.problem for it in findings_of(en, None, builtin=False) if it.rule == "S07"]
    named = {name for problem in found for name in problem.split(":")[1].split(";")[0].replace("$", "").split()}
    assert {name.strip(",") for name in named} == missing


@pytest.mark.parametrize(
    ("symbols", "formula"),
    [
        ("- $x$: input", "x_i + x_{t-1}"),
        ("- $x_i$: input", "x_j"),
        ("- $\\pi$: policy\n- $\\theta$: weights", "\\pi_\\theta(\\theta)"),
        ("- B, T: batch and tokens", "B T"),
        ("- $Q$, $K$: queries, keys", "QK^\\top"),
        ("- d_model: width", "d_{\\text{model}}"),
    ],
)
def test_how_symbols_may_be_defined(symbols: str, formula: str) -> None:
    en = f"# T\n\n## Q? {{#q topic=attention}}\n\n${formula}$.\n\n### Symbols\n{symbols}\n"
    assert [it for it in findings_of(en, None, builtin=False) if it.rule == "S07"] == []


def test_the_same_question_twice_is_found() -> None:
    en = EN + "\n## Why divide scores by $\\sqrt{d_k}$ ? {#scale-again topic=attention}\n\nSame.\n"
    found = [it for it in findings_of(en, None) if it.rule == "S15"]
    assert [("'scale'" in it.problem, it.place.line) for it in found] == [(True, en.splitlines().index("Same.") - 1)]


def test_an_id_used_in_two_decks_is_found() -> None:
    found = lint([deck_of(name="a"), deck_of(name="b")], LABS, known_topics={"attention"}, today=TODAY)
    assert {it.place.path.name for it in found if it.rule == "S09"} == {"b.en.md"}


def test_follow_ups_may_name_cards_of_other_decks() -> None:
    en = "# Mine\n\n## Why? {#why topic=attention}\n\nSo.\n\n### Key points\n- a\n- b\n- c\n\n### Follow-ups\n- scale\n"
    mine = deck_of(en, None, builtin=False, name="mine")
    assert [it.rule for it in lint([mine], {}, known_topics={"attention"}, today=TODAY)] == ["S12"]
    assert lint([mine], {}, known_topics={"attention"}, today=TODAY, others=[deck_of()]) == []


def test_every_rule_has_an_id_of_the_rubric_or_of_its_room() -> None:
    assert {rule.id[0] for rule in RULES} == {"S", "L", "M"}
    assert {"S01", "S02", "S04", "S05", "S06", "S07", "S09", "S10", "S12", "S13", "S14"} <= {rule.id for rule in RULES}


class _Counted(frozenset[str]):
    """A set that counts with how many others it was compared."""

    compared = 0

    def __and__(self, other: object) -> frozenset[str]:
        _Counted.compared += 1
        return frozenset.__and__(self, other)  # type: ignore[operator]


def test_a_front_is_compared_with_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a thousand are of the same words: with so many for each of its rare letter triples."""
    words = ["why", "does", "the", "key", "value", "cache", "grow", "with", "batch", "and", "length", "while", "heads"]
    rng = random.Random(0)
    fronts = [" ".join(rng.choices(words, k=12)) for _ in range(1_000)]
    cards = "\n".join(f"## {front}? {{#c-{number} topic=attention}}\n\nA.\n" for number, front in enumerate(fronts))
    monkeypatch.setattr(rules_deck, "_MAX_ALIKE", 5)
    monkeypatch.setattr(rules_deck, "_triples", lambda front, triples=rules_deck._triples: _Counted(triples(front)))
    monkeypatch.setattr(_Counted, "compared", 0)
    list(similar_fronts(deck_of(f"# T\n\n{cards}", None).cards))
    most = max(len(rules_deck._triples(front)) for front in fronts)
    assert 0 < _Counted.compared <= 1_000 * 5 * (0.2 * most + 1)


def test_similar_fronts_agree_with_comparing_all_pairs() -> None:
    from llmquiz.deck.rules_deck import SIMILAR, _close_pairs

    rng = random.Random(1)
    sets = [frozenset(rng.choices("abcdefghijkl", k=rng.randint(1, 14))) for _ in range(120)]
    sets += [frozenset(members | {rng.choice("mnop")}) for members in sets[:40]]
    every = {
        (one, other)
        for other in range(len(sets))
        for one in range(other)
        if len(sets[one] & sets[other]) / len(sets[one] | sets[other]) > SIMILAR
    }
    assert {(one, other) for one, other, _ in _close_pairs(sets)} == every
