"""What Anki's things are called here: ids that every import of the same thing finds again, titles, tags, language.

Anki's deck ids differ from one collection to the next, and names may hold anything; a note's guid alone stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from unicodedata import normalize
from urllib.parse import unquote

from llmquiz.anki.archive import names
from llmquiz.core.card import Lang

ORIGIN = "anki"
OWN_GUID = "llmquiz:"
_LONGEST_SLUG = 60
_CJK = re.compile(r"[\u2e80-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_TAG = re.compile(r"<[^<>]*>|\[sound:[^\[\]]*\]")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_BEYOND_SLUG = re.compile(r"[^\x00-\x7f]")
_TOPIC = re.compile(r"topic::(?P<topic>.+)", re.IGNORECASE)
_PICTURE = re.compile(r"!\[(?P<words>[^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[(?P<words>[^\]]+)\]\([^)]*\)")
_MARKS = re.compile(r"^(?:\s*(?:#{1,6}|>|[-*+]|\d+[.)])\s+)+|\*\*|__|`+|\\(?=[^\w\s()\[\]{}\\$^_&%,;!|])")
_LONGEST_FRONT, _MOST_OF_LINE = 200, 2000
_MARKS_OF_MEDIA = ("[sound:", "src", "data")
_NO_NAMES = frozenset[str]()
# Every length is bounded: a field may be a megabyte of what a pattern starts with.
_NAMED = re.compile(
    r"""\[sound:(?P<sound>[^\]\n]{1,255})\]
    |\b(?:src|data)\s{0,9}=\s{0,9}(?P<quote>["']?)(?P<file>[^"'>\s][^"'>]{0,255}?)(?P=quote)[\s/>]""",
    re.VERBOSE,
)


def card_id(guid: str) -> str:
    """Our id of a note that was made in Anki."""
    return f"{ORIGIN}-{blake2b(guid.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def own_card_id(guid: str) -> tuple[str, int]:
    """The id of a card that llmquiz exported, and which part of its faces the note holds."""
    name, _, part = guid.removeprefix(OWN_GUID).partition("/")
    return name, int(part) if part.isascii() and part.isdecimal() and len(part) < 6 else 0


def slugs(deck_names: Iterable[str]) -> dict[str, str]:
    """A deck id for each of Anki's deck names. What letters of ASCII cannot tell apart gets a few digits of a hash."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(deck_names):
        slug = _slug(name)
        if slug in taken:
            slug = f"{slug}-{_digits(name)}"
        taken.add(slug)
        found[name] = slug
    return found


def _slug(name: str) -> str:
    words = _NOT_SLUG.sub("-", name.lower()).strip("-")
    if _BEYOND_SLUG.search(name) or len(words) > _LONGEST_SLUG or not words:
        words = f"{words[:_LONGEST_SLUG].strip('-')}-{_digits(name)}".strip("-")
    return f"{ORIGIN}-{words}"


def _digits(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()


def title(name: str) -> str:
    """A deck's name with its levels apart."""
    return " › ".join(safe(level) for level in name.split("::") if safe(level)) or ORIGIN


def safe(text: str) -> str:
    """`text` on one line, without characters that act on a terminal."""
    return " ".join(names.clean(text, absent="").split())


def tags_and_topic(tags: Iterable[str], default: str) -> tuple[tuple[str, ...], str]:
    """The tags as ours, and the topic that one of them names, else `default`."""
    kept, topic = [], default
    for tag in map(safe, tags):
        if match := _TOPIC.fullmatch(tag):
            topic = _NOT_SLUG.sub("-", match["topic"].lower()).strip("-") or default
        elif tag:
            kept.append(tag)
    return tuple(kept), topic


def language(text: str) -> Lang:
    """Chinese if there is a Chinese character outside of HTML's tags, else English."""
    return Lang.ZH if _CJK.search(text) and _CJK.search(_TAG.sub("", text)) else Lang.EN


def headline(markdown: str) -> str:
    """The first line that says something, as plain text; TeX stays."""
    for line in markdown.split("\n"):
        if line.startswith("```"):
            continue
        line = line[:_MOST_OF_LINE]
        if "](" in line:
            line = _LINK.sub(lambda match: match["words"], _PICTURE.sub(lambda match: match["words"], line))
        plain = " ".join(_MARKS.sub("", line).split()).strip("|- ")
        if plain:
            return plain if len(plain) <= _LONGEST_FRONT else plain[: _LONGEST_FRONT - 1].rstrip() + "…"
    return ""


def media_named(html: str) -> frozenset[str]:
    """The files that a note's fields show or play."""
    if "=" not in html and _MARKS_OF_MEDIA[0] not in html:
        return _NO_NAMES
    found: set[str] = set()
    for mark in _MARKS_OF_MEDIA if "=" in html else _MARKS_OF_MEDIA[:1]:
        at = html.find(mark)
        while at >= 0:
            match = _NAMED.match(html, at)
            if match and "://" not in (name := match["sound"] or match["file"]) and not name.startswith("data:"):
                found.add(normalize("NFC", name))
            at = html.find(mark, match.end() if match else at + 1)
    return frozenset(found)


def decoded(name: str) -> str:
    """A file's name that a note writes as a part of an address."""
    return unquote(name) if "%" in name else name
