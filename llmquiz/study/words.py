"""The words of the interface in English and Chinese; every face of llmquiz takes them from here.

An entry may name fields in braces. ``one|many`` holds English singular and plural, chosen by the field `n`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from llmquiz.core.card import Frequency, Lang
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import State

if TYPE_CHECKING:
    from llmquiz.core.scheduler import Outcome

_MONTH, _YEAR = 30.4, 365.25  # days


def interface(language: str) -> Lang:
    """The language of the interface for the setting `language` (``en``, ``zh`` or ``both``)."""
    return Lang.ZH if language == "zh" else Lang.EN


def shown(language: str) -> tuple[Lang, ...]:
    """The languages in which a card is shown for the setting `language`."""
    return (Lang.EN, Lang.ZH) if language == "both" else (Lang(language),)


def word(key: str, lang: Lang, **fields: object) -> str:
    """The entry `key` in `lang`, with its fields filled in.

    Raises:
        KeyError: if there is no such entry, or a field of it is not given.
    """
    text = _WORDS[key][lang]
    if "|" in text:
        one, many = text.split("|")
        text = one if fields["n"] == 1 else many
    return text.format(**fields) if fields else text


def label(key: str, lang: Lang) -> str:
    """The entry as a label before a text: ``Answer:`` or ``答案：``."""
    return word(key, lang) + ("：" if lang is Lang.ZH else ":")


def labelled(key: str, text: str, lang: Lang) -> str:
    """`text` behind its label: ``Answer: …`` or ``答案：…``."""
    return label(key, lang) + text if lang is Lang.ZH else f"{label(key, lang)} {text}"


def listed(parts: Iterable[str], lang: Lang) -> str:
    """The parts with the comma of the language between them."""
    return ("，" if lang is Lang.ZH else ", ").join(parts)


def rating_word(rating: Rating, lang: Lang) -> str:
    """``Again`` or ``重来``."""
    return word(rating.name.lower(), lang)


def state_word(state: State, lang: Lang) -> str:
    """``new`` or ``新卡``."""
    return word(state.name.lower(), lang)


def frequency_word(frequency: Frequency, lang: Lang) -> str:
    """``asked often`` or ``高频``."""
    return word(f"frequency_{frequency}", lang)


def duration(seconds: float, lang: Lang) -> str:
    """A length of time in its two largest units: ``1 h 05 min``, ``12 min``, ``8 s``."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return word("seconds", lang, n=round(seconds))
    if minutes < 60:
        return word("minutes", lang, n=minutes)
    return word("hours_minutes", lang, hours=minutes // 60, minutes=f"{minutes % 60:02}")


def interval(outcome: Outcome, lang: Lang) -> str:
    """The time until a card comes back, spelled out: ``10 min``, ``3 days``, ``4.1 months``."""
    if outcome.interval_days is None:
        return duration(outcome.delay_seconds or 0, lang)
    days = outcome.interval_days
    if days < _MONTH:
        return word("days", lang, n=days)
    unit, length = ("months", _MONTH) if days < _YEAR else ("years", _YEAR)
    return word(unit, lang, n=f"{days / length:.1f}")


_WORDS: Mapping[str, Mapping[Lang, str]] = {
    key: {Lang.EN: en, Lang.ZH: zh}
    for key, en, zh in (
        # ratings, states and what a card is
        ("again", "Again", "重来"),
        ("hard", "Hard", "困难"),
        ("good", "Good", "良好"),
        ("easy", "Easy", "简单"),
        ("new", "new", "新卡"),
        ("learning", "learning", "学习中"),
        ("review", "review", "复习"),
        ("relearning", "relearning", "重学中"),
        ("young", "young", "未成熟"),
        ("mature", "mature", "成熟"),
        ("suspended", "suspended", "已暂停"),
        ("buried", "buried", "已搁置"),
        ("flagged", "flagged", "已标记"),
        ("leech", "leech", "难缠卡"),
        ("due", "due", "到期"),
        ("overdue", "overdue", "逾期"),
        ("total", "total", "总计"),
        ("frequency_high", "asked often", "高频"),
        ("frequency_medium", "asked sometimes", "中频"),
        ("frequency_low", "asked rarely", "低频"),
        ("open", "open question", "问答"),
        ("cloze", "fill in", "填空"),
        ("choice", "choice", "选择"),
        ("predict", "prediction", "预测"),
        ("note", "note", "笔记"),
        # the parts of a card
        ("card", "Card", "卡片"),
        ("deck", "Deck", "卡组"),
        ("decks", "Decks", "卡组"),
        ("topic", "Topic", "主题"),
        ("level", "Level", "难度"),
        ("question", "Question", "问题"),
        ("answer", "Answer", "答案"),
        ("key_points", "Key points", "要点"),
        ("choices", "Choices", "选项"),
        ("pitfall", "Pitfall", "误区"),
        ("symbols", "Symbols", "符号"),
        ("follow_ups", "Follow-ups", "追问"),
        ("sources", "Sources", "来源"),
        ("lab", "Lab", "实验"),
        ("labs", "Labs", "实验"),
        ("tags", "Tags", "标签"),
        ("right", "Right", "正确"),
        ("wrong", "Wrong", "错误"),
        ("as_of", "as of {date}", "截至 {date}"),
        # what one can do
        ("study", "Study", "学习"),
        ("reveal", "Show answer", "显示答案"),
        ("rate", "Rate", "评分"),
        ("undo", "Undo", "撤销"),
        ("suspend", "Suspend", "暂停"),
        ("unsuspend", "Unsuspend", "取消暂停"),
        ("bury", "Bury", "搁置"),
        ("flag", "Flag", "标记"),
        ("edit", "Edit", "编辑"),
        ("run_lab", "Run lab", "运行实验"),
        ("search", "Search", "搜索"),
        ("browse", "Browse", "浏览"),
        ("statistics", "Statistics", "统计"),
        ("settings", "Settings", "设置"),
        ("language", "Language", "语言"),
        ("help", "Help", "帮助"),
        ("back", "Back", "返回"),
        ("quit", "Quit", "退出"),
        ("close", "Close", "关闭"),
        ("cancel", "Cancel", "取消"),
        ("next", "Next", "下一张"),
        ("previous", "Previous", "上一张"),
        ("yes", "Yes", "是"),
        ("no", "No", "否"),
        ("export", "Export", "导出"),
        # a session
        (
            "counts",
            "{new} new, {learning} learning, {review} to review",
            "新卡 {new}，学习中 {learning}，待复习 {review}",
        ),
        ("card_number", "Card {n}", "第 {n} 张"),
        ("press_enter", "Enter shows the answer, ? lists the commands.", "回车显示答案，? 列出命令。"),
        ("pick", "Type the number of your choice, or Enter for the answer.", "输入选项编号，或按回车显示答案。"),
        ("guess", "Type your guess, or Enter for the answer.", "输入你的预测，或按回车显示答案。"),
        ("guess_first", "Your guess for {metric} first:", "请先预测 {metric}："),
        ("fill_in", "Type the missing words, or Enter for the answer.", "输入被隐去的内容，或按回车显示答案。"),
        ("rate_it", "How well did you know it?", "你答得如何？"),
        ("rate_suggested", "How well did you know it? Enter for {rating}.", "你答得如何？按回车选“{rating}”。"),
        ("tick", "p 1 3 ticks the points that you named.", "p 1 3 勾选你说到的要点。"),
        ("ticked", "{count} of {total} points: {rating} suggested.", "说到 {count}/{total} 个要点：建议“{rating}”。"),
        ("picked_right", "Right: {rating} suggested.", "正确：建议“{rating}”。"),
        ("picked_wrong", "Wrong: {rating} suggested.", "错误：建议“{rating}”。"),
        ("your_choice", "Your choice: {choice}", "你的选择：{choice}"),
        ("your_answer", "Your answer: {answer}", "你的答案：{answer}"),
        ("right_choice", "Right choice: {choice}", "正确选项：{choice}"),
        ("your_guess", "Your guess: {guess}", "你的预测：{guess}"),
        ("measured", "measured", "实测"),
        (
            "guess_scored",
            "You guessed {guess}, measured {measured}: off by a factor of {factor}. {rating} suggested.",
            "你预测 {guess}，实测 {measured}：相差 {factor} 倍。建议“{rating}”。",
        ),
        ("guess_waits", "Command l runs the lab and scores your guess.", "命令 l 运行实验并为你的预测评分。"),
        ("rated", "{rating}; next in {interval}.", "{rating}；{interval} 后再见。"),
        (
            "rated_leech",
            "A leech: forgotten {n} time. Rewrite or split it.|A leech: forgotten {n} times. Rewrite or split it.",
            "难缠卡：已忘记 {n} 次。试着改写或拆分它。",
        ),
        ("now_suspended", "Suspended: it will not come back until you unsuspend it.", "已暂停：取消暂停前不再出现。"),
        ("now_resumed", "Resumed: it comes back when it is due.", "已恢复：到期时会再出现。"),
        ("now_buried", "Buried until tomorrow.", "已搁置到明天。"),
        ("now_flagged", "Flag {flag}.", "标记 {flag}。"),
        ("now_unflagged", "Flag removed.", "标记已移除。"),
        ("undone", "Undone: {what}.", "已撤销：{what}。"),
        ("nothing_to_undo", "Nothing to undo.", "没有可撤销的操作。"),
        ("undo_or_leave", "u undoes the last answer, Enter leaves.", "u 撤销上一次回答，回车离开。"),
        ("no_lab", "This card has no lab.", "这张卡片没有实验。"),
        ("reveal_first", "Enter shows the answer first.", "请先按回车显示答案。"),
        ("unknown_command", "Not a command: {text}. ? lists the commands.", "未知命令：{text}。? 列出命令。"),
        ("answered", "{n:,} answer in this session.|{n:,} answers in this session.", "本次回答 {n:,} 张。"),
        ("all_done", "Done for now.", "今天的任务已完成。"),
        ("nothing_due", "Nothing is due now.", "现在没有到期的卡片。"),
        ("empty", "There are no cards here yet.", "这里还没有卡片。"),
        ("next_due_in", "The next card is due in {time}.", "下一张卡片 {time} 后到期。"),
        ("next_due_on", "The next card is due on {date}.", "下一张卡片于 {date} 到期。"),
        ("come_back", "New cards come back tomorrow.", "明天会有新的卡片。"),
        ("interrupted", "Stopped; every answer is kept.", "已停止；所有回答均已保存。"),
        ("editing", "Opening {path}", "正在打开 {path}"),
        ("reloaded", "The card was read again.", "卡片已重新读取。"),
        ("help_question", "Enter: show the answer", "回车：显示答案"),
        ("help_pick", "1 to {n}: choose that option", "1 到 {n}：选择该选项"),
        ("help_guess", "a number: your guess", "数字：你的预测"),
        ("help_fill_in", "any words: your answer, compared when shown", "任意文字：你的答案，随后比对"),
        ("help_rate", "1 again, 2 hard, 3 good, 4 easy: rate the card", "1 重来，2 困难，3 良好，4 简单：为卡片评分"),
        ("help_accept", "Enter: take the suggested rating", "回车：采用建议的评分"),
        ("help_tick", "p 1 3: tick the key points that you named", "p 1 3：勾选你说到的要点"),
        ("help_undo", "u: undo", "u：撤销"),
        ("help_suspend", "s: suspend the card", "s：暂停卡片"),
        ("help_bury", "b: bury the card until tomorrow", "b：搁置到明天"),
        ("help_flag", "f 1 to f 7: flag the card; f 0 removes the flag", "f 1 到 f 7：标记卡片；f 0 移除标记"),
        ("help_lab", "l: run the card's lab", "l：运行卡片的实验"),
        ("help_edit", "e: edit the card", "e：编辑卡片"),
        ("help_repeat", "r: read the card again", "r：重读卡片"),
        ("help_help", "?: these commands", "?：列出命令"),
        ("help_quit", "q: quit", "q：退出"),
        ("no_editor", "The card cannot be edited here.", "此处无法编辑卡片。"),
        ("no_points", "This card has no key points.", "这张卡片没有要点。"),
        ("bad_points", "Points are numbered 1 to {n}: p 1 3", "要点编号为 1 到 {n}：p 1 3"),
        ("bad_flag", "Flags are numbered 0 to 7: f 1", "标记编号为 0 到 7：f 1"),
        ("bad_choice", "Choices are numbered 1 to {n}.", "选项编号为 1 到 {n}。"),
        ("bad_guess", "Not a number above zero: {text}", "不是大于零的数：{text}"),
        ("typed_equal", "As hidden: {rating} suggested.", "完全一致：建议“{rating}”。"),
        ("typed_close", "Nearly: {rating} suggested.", "接近：建议“{rating}”。"),
        ("typed_other", "Not as hidden: {rating} suggested.", "不一致：建议“{rating}”。"),
        ("kept_card", "The card stays; try again.", "卡片仍在；请重试。"),
        # labs
        ("lab_started", "Running lab {lab} on {device}.", "实验 {lab} 正在 {device} 上运行。"),
        ("lab_starting", "Starting lab {lab}; Ctrl+C stops it.", "正在启动实验 {lab}；Ctrl+C 停止。"),
        ("claim_held", "holds", "成立"),
        ("claim_broken", "does not hold", "不成立"),
        ("lab_ended", "Lab ended: {outcome}, {time}.", "实验结束：{outcome}，{time}。"),
        ("outcome_ok", "ok", "正常"),
        ("outcome_broken", "a claim did not hold", "有结论不成立"),
        ("outcome_failed", "failed", "失败"),
        ("outcome_cancelled", "cancelled", "已取消"),
        ("outcome_timeout", "out of time", "超时"),
        ("outcome_memory", "out of memory", "内存不足"),
        # statistics
        ("today", "Today", "今天"),
        ("reviews", "{n:,} review|{n:,} reviews", "{n:,} 次复习"),
        ("new_cards", "{n:,} new card|{n:,} new cards", "{n:,} 张新卡"),
        ("recalled", "{rate} recalled", "记住 {rate}"),
        ("per_answer", "{seconds} s per answer", "每次 {seconds} 秒"),
        ("streak", "Streak", "连续学习"),
        ("days", "{n:,} day|{n:,} days", "{n:,} 天"),
        ("longest", "longest {n:,} day|longest {n:,} days", "最长 {n:,} 天"),
        ("retention", "True retention", "真实记忆率"),
        ("span_today", "today", "今天"),
        ("span_all", "all time", "全部"),
        ("forecast", "Forecast", "到期预测"),
        ("forecast_days", "next {n} days", "未来 {n} 天"),
        ("tomorrow", "tomorrow", "明天"),
        ("per_day", "{n} a day", "每天 {n}"),
        ("activity", "Activity", "活动"),
        ("activity_weeks", "last {n} weeks", "最近 {n} 周"),
        ("less", "less", "少"),
        ("more", "more", "多"),
        ("memory", "Memory by topic", "各主题记忆"),
        ("seen", "seen", "已学"),
        ("recall_now", "recall", "记忆率"),
        (
            "more_topics",
            "and {n:,} more topic; --json lists all|and {n:,} more topics; --json lists all",
            "另有 {n:,} 个主题；--json 可列出全部",
        ),
        ("cards", "Cards", "卡片"),
        ("hardest", "Hardest cards", "最难的卡片"),
        ("difficulty", "difficulty", "难度"),
        ("lapses", "lapses", "遗忘"),
        ("runs", "{n:,} run|{n:,} runs", "运行 {n:,} 次"),
        ("claims", "{held} of {total} claims held", "{total} 条结论中 {held} 条成立"),
        ("last_run", "last", "最近"),
        ("predictions", "{n:,} prediction|{n:,} predictions", "{n:,} 次预测"),
        ("predictions_title", "Predictions", "预测"),
        ("memory_note", "mean recall, worst first", "平均记忆率，最差在前"),
        ("typical_miss", "typically off by a factor of {factor}", "通常相差 {factor} 倍"),
        ("lean_high", "leaning high", "偏高"),
        ("lean_low", "leaning low", "偏低"),
        ("lean_even", "not leaning either way", "无明显偏向"),
        ("days_ago", "{n} day ago|{n} days ago", "{n} 天前"),
        ("empty_title", "Nothing to count yet", "还没有可统计的内容"),
        ("empty_cards", "{n:,} card is waiting.|{n:,} cards are waiting.", "{n:,} 张卡片在等你。"),
        (
            "empty_hint",
            "Run llmquiz study: after the first answers this page shows how well you remember.",
            "运行 llmquiz study：答过几张后，这里会显示你的记忆情况。",
        ),
        ("seconds", "{n} s", "{n} 秒"),
        ("months", "{n} months", "{n} 个月"),
        ("years", "{n} years", "{n} 年"),
        ("minutes", "{n} min", "{n} 分钟"),
        ("hours_minutes", "{hours} h {minutes} min", "{hours} 小时 {minutes} 分"),
    )
}
