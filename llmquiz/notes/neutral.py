"""Text that can neither steer a terminal nor hide a part of itself; all else stays as it was written.

Removing the escape character alone would leave ``[31m`` as words, so that whole sequences go. An invisible character is
not always a trick: joiners make one emoji of several and shape Arabic and Indic words. They stay where they do so.
"""

from __future__ import annotations

import html
import re
from functools import cache, lru_cache

_EMOJI = "\u2190-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_JOINING = (
    "\u0620-\u065f\u066e-\u06d3\u06ee-\u0dff\u0f00-\u109f\u1780-\u17df\u1820-\u18aa\u1900-\u1cff\ua800-\uabff"
    "\ufb50-\ufdcf\ufe70-\ufefc\U00010a00-\U00011fff"
)
# Invisible, or meant to change what other characters look like. U+E000 and U+E001 mark words in our own screens.
_UNSEEN = (
    "\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ue000\ue001\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff"
)
_MARKS = "\ufdd0-\ufdef"
_LONE = "\ud800-\udfff"
_SEQUENCE = (
    r"(?P<sequence>(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*+(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]{0,8}[0-Z\\-~])"
)
_KEPT = (
    f"(?P<kept>(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f)\u200d(?=[{_EMOJI}])"
    f"|(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}])"
    f"|(?<=[^\\s{_UNSEEN}{_MARKS}{_LONE}])[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
    "|(?<=\U0001f3f4)[\U000e0030-\U000e007a]{1,16}\U000e007f)"
)
_COMBINING = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_BREAK = "(?P<line>\r\n?|[\x0b\x0c\x85\u2028\u2029])"
_HOSTILE_ASCII = bytes({*range(0x20), 0x7F} - {*b"\t\n"})
_SUSPECT = re.compile(f"[\x0b-\r\u2028\u2029{_UNSEEN}{_MARKS}{_LONE}{_COMBINING}]")
_SUSPECT_BUT_MARKS = re.compile(f"[\x0b-\r\u2028\u2029{_UNSEEN}{_LONE}{_COMBINING}]")
# A number of a million digits would take int() minutes, if it did not refuse it.
_ENTITY = re.compile(
    r"&(?:#[0-9]{1,7}(?![0-9])|#[xX][0-9a-fA-F]{1,6}(?![0-9a-fA-F])|[A-Za-z][A-Za-z0-9]{1,31});?", re.ASCII
)


def neutral(text: str) -> str:
    """`text` without escape sequences, control, bidirectional and needless invisible characters.

    Line ends become ``\\n``, unpaired surrogates U+FFFD; more than eight combining marks on a letter are cut. Linear
    in the length of `text`; doing it twice changes nothing.
    """
    if _is_clean(text) if text.isascii() else not _SUSPECT.search(text):
        return text
    return _cleaned(text, _UNSEEN + _MARKS)


def decoded(text: str) -> str:
    """HTML text with its entities as characters, as safe as before; our own marks stay."""
    if "&" not in text:
        return text
    text = _ENTITY.sub(lambda match: _of_entity(match[0]), text)
    if _is_clean(text) if text.isascii() else not _SUSPECT_BUT_MARKS.search(text):
        return text
    return _cleaned(text, _UNSEEN)


def _is_clean(text: str) -> bool:
    """Whether ASCII text has no control characters; several times as fast as a search for them."""
    return len(text.encode().translate(None, _HOSTILE_ASCII)) == len(text)


def _cleaned(text: str, unseen: str) -> str:
    each, pile = _expressions(unseen)
    return pile.sub(r"\1", each.sub(_replacement, text))


@cache
def _expressions(unseen: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds single things to remove, and piles of marks; most runs of the program never need it."""
    each = re.compile(f"{_BREAK}|{_SEQUENCE}|{_KEPT}|(?P<lone>[{_LONE}])|[{unseen}]")
    return each, re.compile(f"([{_COMBINING}][{_COMBINING}]{{7}})[{_COMBINING}]++")


def _replacement(match: re.Match[str]) -> str:
    match match.lastgroup:
        case "kept":
            return match[0]
        case "line":
            return "\n"
        case "lone":
            return "\ufffd"
        case _:
            return ""


@lru_cache(maxsize=512)
def _of_entity(entity: str) -> str:
    return html.unescape(entity)
