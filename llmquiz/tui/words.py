"""The few words that only the screens use, in English and Chinese; the rest are `llmquiz.study.words`."""

from __future__ import annotations

from collections.abc import Mapping

from llmquiz.core.card import Lang

_WORDS: Mapping[str, tuple[str, str]] = {
    "tagline": ("spaced repetition for LLM interviews", "面向大模型面试的间隔复习"),
    "due_today": ("to do today", "今日待学"),
    "reviewed_today": ("reviewed today", "今日已学"),
    "streak": ("day streak", "天连续"),
    "choose": ("choose", "选择"),
    "nothing_today": ("Nothing is due. Rest is part of learning.", "没有到期的卡片。休息也是学习的一部分。"),
    "no_decks": ("No decks yet; `llmquiz deck new NAME` writes one.", "还没有卡组；`llmquiz deck new NAME` 可新建。"),
    "column_new": ("new", "新卡"),
    "column_learning": ("learning", "在学"),
    "column_due": ("due", "到期"),
    "short_new": ("new", "新卡"),
    "short_learning": ("learn", "在学"),
    "short_due": ("due", "到期"),
    "column_memory": ("learned", "已学"),
    "guess_placeholder": ("your guess", "你的预测"),
    "guess_bad": ("Type a number above zero, e.g. 12.5, 3e9 or 30%.", "请输入大于零的数，例如 12.5、3e9 或 30%。"),
    "guess_kept": ("Your guess", "你的预测"),
    "off_by": ("off by a factor of {factor}", "相差 {factor} 倍"),
    "show_answer": ("show answer", "显示答案"),
    "points_said": ("{ticked} of {total} named", "说到 {ticked}/{total} 条"),
    "flag_1": ("red", "红"),
    "flag_2": ("orange", "橙"),
    "flag_3": ("green", "绿"),
    "flag_4": ("blue", "蓝"),
    "flag_5": ("pink", "粉"),
    "flag_6": ("turquoise", "青"),
    "flag_7": ("purple", "紫"),
    "copied": ("Card copied.", "卡片已复制。"),
    "quit_hint": (
        "{sign} leaves; ctrl+c never quits, so that nothing is lost.",
        "按 {sign} 离开；ctrl+c 不会退出，以免丢失进度。",
    ),
    "language_en": ("Cards in English", "卡片：英文"),
    "language_zh": ("Cards in Chinese", "卡片：中文"),
    "language_both": ("Cards in English and Chinese", "卡片：中英双语"),
    "key_unknown": (
        "settings: [keys] names '{id}', which is no key; {sign} lists them.",
        "设置：[keys] 中的“{id}”不存在；按 {sign} 查看全部。",
    ),
    "theme_unknown": ("settings: theme '{name}' is not known; {known}", "设置：主题“{name}”不存在；{known}"),
    "not_written": ("Your answer was not saved", "回答未能保存"),
    "not_written_hint": (
        "The card stays; nothing is lost. Mend the cause, then rate it again.",
        "卡片仍在，没有丢失。排除原因后请重新评分。",
    ),
    "no_editor": ("An editor cannot be opened here; the card is at {place}", "此处无法打开编辑器；卡片位于 {place}"),
    "editor_failed": (
        "{command} ended with code {code}; the card is at {place}",
        "{command} 以代码 {code} 结束；卡片位于 {place}",
    ),
    "too_small": ("Terminal too small", "终端太小"),
    "too_small_hint": ("needs {columns}×{rows}, has {width}×{height}", "需要 {columns}×{rows}，现为 {width}×{height}"),
    "session_done": ("Session complete", "本次学习完成"),
    "nothing_now": ("Nothing to study right now", "现在没有要学的卡片"),
    "stat_answered": ("answered", "已答"),
    "stat_remembered": ("remembered", "记住"),
    "stat_time": ("time", "用时"),
    "stat_pace": ("per card", "每张"),
    "left_over": ("{n} still waiting today.", "今天还有 {n} 张。"),
    "search_placeholder": ("Search cards, English or 中文", "搜索卡片，中文或 English"),
    "search_hint": ("Type to search questions and answers in both languages.", "输入文字，搜索两种语言的问题和答案。"),
    "search_none": ("No card says “{query}”.", "没有卡片包含“{query}”。"),
    "search_count": ("{n} cards", "{n} 张"),
    "help_title": ("Keys", "按键"),
    "help_remap": ("Move a key: [keys] in {path}", "更改按键：在 {path} 的 [keys] 中设置"),
    "guess_before_lab": ("Make your guess first, or show the answer.", "请先预测，或直接显示答案。"),
    "leave_session": ("leave", "离开"),
    "take_marked": ("take ▸", "采用 ▸"),
    "tomorrow_due": ("{n} due tomorrow so far.", "目前明天有 {n} 张到期。"),
    "loading": ("counting …", "统计中…"),
    "lab_waiting": ("starting …", "启动中…"),
    "lab_done": ("Finished", "已完成"),
    "lab_ok": ("Every claim held", "所有结论均成立"),
    "lab_broken": ("A claim did not hold", "有结论不成立"),
    "lab_failed": ("The lab failed", "实验失败"),
    "lab_cancelled": ("Stopped", "已停止"),
    "lab_timeout": ("Out of time", "超出时间预算"),
    "lab_memory": ("Out of memory", "超出内存预算"),
    "lab_close": ("{sign} closes", "按 {sign} 关闭"),
    "lab_stop": ("{sign} stops", "按 {sign} 停止"),
    "seconds": ("{n} s", "{n} 秒"),
    "command_study": ("Study: {deck}", "学习：{deck}"),
    "command_lab": ("Lab: {lab}", "实验：{lab}"),
    "command_theme": ("Theme: {theme}", "主题：{theme}"),
    "command_action": ("Key {sign}", "按键 {sign}"),
}


def say(key: str, lang: Lang, **fields: object) -> str:
    """The entry `key` in `lang`, its fields filled in.

    Raises:
        KeyError: if there is no such entry, or a field of it is not given.
    """
    return _WORDS[key][lang is Lang.ZH].format(**fields)
