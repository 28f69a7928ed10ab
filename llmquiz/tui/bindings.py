"""Every key of the interface, once: footer, help, documentation and the user's keys are all made from this table.

A user moves a key in the settings by its id: ``[keys]`` ``"study.reveal" = "space"``. Keys that editors and
multiplexers take (ctrl+q, ctrl+b, ctrl+s, ctrl+j, function keys) are never the only way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType

from llmquiz.core.card import Lang


@dataclass(frozen=True, slots=True)
class Key:
    """A binding and what it is called.

    Attributes:
        id: ``group.name``; stable, users write it in their settings.
        keys: Textual's names of the keys, parted by commas; the first is shown.
        action: Textual action of the screen or the app.
        short, text: for the footer and for the help, in each language.
    """

    id: str
    keys: str
    action: str
    short: Mapping[Lang, str]
    text: Mapping[Lang, str]

    @property
    def group(self) -> str:
        """Where the key works: ``app``, ``home``, ``study``, …"""
        return self.id.partition(".")[0]


GROUPS: Mapping[str, Mapping[Lang, str]] = {
    "study": {Lang.EN: "Studying", Lang.ZH: "学习"},
    "points": {Lang.EN: "Key points", Lang.ZH: "要点"},
    "choice": {Lang.EN: "Choosing", Lang.ZH: "选择题"},
    "home": {Lang.EN: "Home", Lang.ZH: "主页"},
    "summary": {Lang.EN: "After a session", Lang.ZH: "学习结束后"},
    "search": {Lang.EN: "Searching", Lang.ZH: "搜索"},
    "card": {Lang.EN: "Reading a card", Lang.ZH: "阅读卡片"},
    "scroll": {Lang.EN: "Moving", Lang.ZH: "移动"},
    "app": {Lang.EN: "Everywhere", Lang.ZH: "任何地方"},
}

_ENGLISH = (  # id, keys, action, a word for the footer, a line for the help
    ("app.help", "question_mark", "app.help", "help", "show all keys"),
    ("app.palette", "ctrl+p,colon", "app.command_palette", "commands", "open the commands"),
    ("app.search", "slash", "app.search", "search", "search all cards"),
    ("app.language", "t", "app.language", "中/en", "switch English, Chinese, both"),
    ("app.leave", "q", "app.leave", "quit", "leave this screen; on the first, quit"),
    ("app.back", "escape", "app.back", "back", "close what is open"),
    ("app.interrupt", "ctrl+c", "app.help_quit", "copy", "copy the selected text; never quits"),
    ("home.study", "enter", "study", "study", "study this deck"),
    ("home.all", "a", "study_all", "all decks", "study all decks"),
    ("home.stats", "s", "app.stats", "stats", "how well do I remember?"),
    ("home.down", "j", "cursor(1)", "down", "next deck"),
    ("home.up", "k", "cursor(-1)", "up", "previous deck"),
    ("study.reveal", "space,enter", "reveal", "show answer", "show the answer, then take the suggested rating"),
    ("study.again", "1", "number(1)", "again", "rate Again, or pick the first option"),
    ("study.hard", "2", "number(2)", "hard", "rate Hard, or pick the second option"),
    ("study.good", "3", "number(3)", "good", "rate Good, or pick the third option"),
    ("study.easy", "4", "number(4)", "easy", "rate Easy, or pick the fourth option"),
    ("study.undo", "u", "undo", "undo", "undo the last answer, flag, bury or suspend"),
    ("study.lab", "L,l", "lab", "lab", "run the card's lab, or close it"),
    ("study.flag", "f", "flag", "flag", "flag the card: red, orange, green, blue, none"),
    ("study.bury", "minus", "bury", "bury", "put the card away until tomorrow"),
    ("study.suspend", "exclamation_mark", "suspend", "suspend", "put the card away for good"),
    ("study.edit", "e", "edit", "edit", "open the card in your editor"),
    ("study.copy", "y", "copy", "copy", "copy the card as Markdown"),
    ("choice.a", "a", "pick(1)", "a", "pick option a"),
    ("choice.b", "b", "pick(2)", "b", "pick option b"),
    ("choice.c", "c", "pick(3)", "c", "pick option c"),
    ("choice.d", "d", "pick(4)", "d", "pick option d"),
    ("points.tick", "x", "tick", "tick", "tick the key point and move on"),
    ("points.down", "j,tab", "point(1)", "next point", "next key point"),
    ("points.up", "k,shift+tab", "point(-1)", "previous point", "previous key point"),
    ("summary.home", "space,enter", "home", "home", "back to the decks"),
    ("summary.undo", "u", "undo", "undo", "undo the last answer"),
    ("summary.stats", "s", "app.stats", "stats", "how well do I remember?"),
    ("card.study", "space,enter", "study", "study now", "study this card now"),
    ("card.edit", "e", "edit", "edit", "open the card in your editor"),
    ("card.copy", "y", "copy", "copy", "copy the card as Markdown"),
    ("card.suspend", "exclamation_mark", "suspend", "suspend", "put the card away for good, or take it back"),
    ("search.open", "enter", "open", "open", "show the card"),
    ("search.down", "down", "move(1)", "down", "next card"),
    ("search.up", "up", "move(-1)", "up", "previous card"),
    ("scroll.down", "down", "scroll(1)", "down", "a line down"),
    ("scroll.up", "up", "scroll(-1)", "up", "a line up"),
    ("scroll.page_down", "pagedown", "page(1)", "page down", "a page down"),
    ("scroll.page_up", "pageup", "page(-1)", "page up", "a page up"),
    ("scroll.home", "home", "edge(-1)", "top", "to the top"),
    ("scroll.end", "end", "edge(1)", "bottom", "to the bottom"),
)  # fmt: skip

_CHINESE = {
    "app.help": ("帮助", "显示所有按键"),
    "app.palette": ("命令", "打开命令面板"),
    "app.search": ("搜索", "搜索所有卡片"),
    "app.language": ("中/en", "切换英文、中文、双语"),
    "app.leave": ("退出", "离开此页；在首页则退出"),
    "app.back": ("返回", "关闭当前面板"),
    "app.interrupt": ("复制", "复制选中的文字；不会退出"),
    "home.study": ("学习", "学习此卡组"),
    "home.all": ("全部", "学习所有卡组"),
    "home.stats": ("统计", "查看记忆统计"),
    "home.down": ("下", "下一个卡组"),
    "home.up": ("上", "上一个卡组"),
    "study.reveal": ("显示答案", "显示答案；之后采用建议的评分"),
    "study.again": ("重来", "评“重来”，或选第一项"),
    "study.hard": ("困难", "评“困难”，或选第二项"),
    "study.good": ("良好", "评“良好”，或选第三项"),
    "study.easy": ("简单", "评“简单”，或选第四项"),
    "study.undo": ("撤销", "撤销上一次操作"),
    "study.lab": ("实验", "运行或关闭卡片的实验"),
    "study.flag": ("标记", "标记卡片：红、橙、绿、蓝、无"),
    "study.bury": ("搁置", "把卡片搁置到明天"),
    "study.suspend": ("暂停", "暂停此卡片"),
    "study.edit": ("编辑", "用编辑器打开卡片"),
    "study.copy": ("复制", "以 Markdown 复制卡片"),
    "choice.a": ("a", "选 a"),
    "choice.b": ("b", "选 b"),
    "choice.c": ("c", "选 c"),
    "choice.d": ("d", "选 d"),
    "points.tick": ("勾选", "勾选要点并移到下一条"),
    "points.down": ("下一条", "下一条要点"),
    "points.up": ("上一条", "上一条要点"),
    "summary.home": ("主页", "回到卡组"),
    "summary.undo": ("撤销", "撤销上一次回答"),
    "summary.stats": ("统计", "查看记忆统计"),
    "card.study": ("现在学习", "现在学习此卡片"),
    "card.edit": ("编辑", "用编辑器打开卡片"),
    "card.copy": ("复制", "以 Markdown 复制卡片"),
    "card.suspend": ("暂停", "暂停此卡片，或恢复它"),
    "search.open": ("打开", "显示卡片"),
    "search.down": ("下", "下一张卡片"),
    "search.up": ("上", "上一张卡片"),
    "scroll.down": ("下", "向下一行"),
    "scroll.up": ("上", "向上一行"),
    "scroll.page_down": ("下页", "向下一页"),
    "scroll.page_up": ("上页", "向上一页"),
    "scroll.home": ("顶部", "到顶部"),
    "scroll.end": ("底部", "到底部"),
}  # fmt: skip

KEYS: tuple[Key, ...] = tuple(
    Key(id_, keys, action, {Lang.EN: short, Lang.ZH: _CHINESE[id_][0]}, {Lang.EN: text, Lang.ZH: _CHINESE[id_][1]})
    for id_, keys, action, short, text in _ENGLISH
)

_BY_ID: Mapping[str, Key] = {key.id: key for key in KEYS}
_SIGNS = {
    "question_mark": "?", "slash": "/", "colon": ":", "minus": "-", "exclamation_mark": "!", "escape": "esc",
    "up": "↑", "down": "↓", "pageup": "PgUp", "pagedown": "PgDn", "shift+tab": "⇧tab", "comma": ",", "full_stop": ".",
}  # fmt: skip


def bindings(*groups: str) -> list[BindingType]:
    """Textual bindings of the keys of `groups`, for a screen's or the app's ``BINDINGS``."""
    return [
        Binding(key.keys, key.action, key.text[Lang.EN], show=False, id=key.id) for key in KEYS if key.group in groups
    ]


def find(id_: str) -> Key:
    """The key with this id.

    Raises:
        KeyError: if there is none.
    """
    return _BY_ID[id_]


def unknown(ids: Iterable[str]) -> list[str]:
    """Those of `ids` that are no binding, sorted."""
    return sorted(set(ids) - _BY_ID.keys())


def signs(key: Key, keymap: Mapping[str, str]) -> list[str]:
    """The keys as a reader knows them (``space``, ``?``, ``esc``), the user's own in place of ours."""
    keys = keymap.get(key.id, key.keys).split(",")
    return [_SIGNS.get(name.strip(), name.strip()) for name in keys]
