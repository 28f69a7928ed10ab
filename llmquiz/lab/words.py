"""Words and numbers of a run's report, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from llmquiz.core.card import Lang
from llmquiz.lab.events import ClaimTested, Outcome, Relation

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_WORDS: dict[str, tuple[str, str]] = {
    "held": ("held", "成立"),
    "broken": ("broken", "不成立"),
    "untested": ("not tested", "未检验"),
    "measured": ("measured", "实测"),
    "expected": ("expected", "预期"),
    "about": ("", ""),
    "at least": ("at least", "至少"),
    "at most": ("at most", "至多"),
    "metric": ("metric", "指标"),
    "value": ("value", "数值"),
    "unit": ("unit", "单位"),
    "peak": ("peak memory", "内存峰值"),
    "starting": ("starting", "正在启动"),
    "log": ("log", "日志"),
    "name": ("lab", "实验"),
    "title": ("what it shows", "内容"),
    "budget": ("time limit", "时限"),
    "needs": ("needs", "依赖"),
    "installed": ("installed", "已安装"),
    "missing": ("missing: {names}", "缺少：{names}"),
    "when": ("when", "时间"),
    "outcome": ("outcome", "结果"),
    "seconds": ("seconds", "秒"),
    "device": ("device", "设备"),
    "parameters": ("parameters", "参数"),
    "claims_held": ("claims held", "成立的论断"),
    "problem": ("problem", "问题"),
}
_OUTCOMES: dict[Outcome, tuple[str, str]] = {
    Outcome.OK: ("done", "完成"),
    Outcome.BROKEN: ("broken claim", "有论断不成立"),
    Outcome.FAILED: ("failed", "失败"),
    Outcome.CANCELLED: ("cancelled", "已取消"),
    Outcome.TIMEOUT: ("out of time", "超时"),
    Outcome.MEMORY: ("out of memory", "内存超限"),
}


def word(key: str, lang: Lang) -> str:
    """The word `key` in `lang`."""
    return _WORDS[key][lang is Lang.ZH]


def outcome_word(outcome: Outcome, lang: Lang) -> str:
    """How a run ended, in a word."""
    return _OUTCOMES[outcome][lang is Lang.ZH]


def in_lang(texts: Mapping[Lang, str], lang: Lang, default: str = "") -> str:
    """The text in `lang`, else in the language that there is, else `default`."""
    return texts.get(lang) or next(iter(texts.values()), "") or default


def number(value: float) -> str:
    """Four digits, with a prefix for large numbers: ``1.25k``, ``0.031``, ``3.2M``."""
    for limit, sign in _PREFIXES:
        if abs(value) >= limit:
            return f"{value / limit:.4g}{sign}"
    return f"{value:.4g}"


def comparison(claim: ClaimTested, lang: Lang) -> str:
    """What a claim was held against: ``measured 0.031, expected 0 ± 0.1``, or ``expected at least 1.5 - 0.1``."""
    sign = {Relation.ABOUT: "±", Relation.AT_LEAST: "−", Relation.AT_MOST: "+"}[claim.relation]
    slack = f" {sign} {number(claim.tolerance)}" if claim.tolerance else ""
    expected = f"{word('expected', lang)} {word(claim.relation, lang)}".strip()
    comma = "，" if lang is Lang.ZH else ", "
    return f"{word('measured', lang)} {number(claim.measured)}{comma}{expected} {number(claim.expected)}{slack}"
