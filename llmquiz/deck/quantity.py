"""Numbers with units as people write them: ``128 KiB``, ``3.35 TB/s``, ``75%``, ``7B``, ``2.6×``, ``1.2 × 10^24``.

Conventions: ``KB MB GB TB`` are powers of 1000, ``KiB MiB GiB TiB`` of 1024. ``B`` after a space is bytes (``512 B``);
glued to its number it is 10⁹ (``7B``), as ``K``, ``M`` and ``T`` are 10³, 10⁶ and 10¹². Times are in seconds,
percentages are hundredths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Dimension(Enum):
    """What a number counts."""

    PLAIN = "plain"
    BYTES = "bytes"
    FLOPS = "FLOPs"
    TIME = "time"
    PERCENT = "percent"
    PARAMETERS = "parameters"
    RATE = "rate"
    FACTOR = "factor"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written.

    Attributes:
        text: the words it was read from.
        value: in base units: bytes, seconds, FLOPs, one; 75% is 0.75.
        digit: what one unit of the last written digit is worth, in base units.
        raw: the number alone, without scale and unit.
    """

    text: str
    value: float
    digit: float
    raw: float
    dimension: Dimension

    def agrees(self, value: float) -> bool:
        """Whether `value`, in base units, rounds to what is written."""
        return abs(value - self.value) <= 0.5 * self.digit * (1 + 1e-9) + 1e-12 * abs(self.value)


_BINARY = {f"{p}iB": 1024.0**power for power, p in enumerate("KMGTPE", start=1)}
_DECIMAL = {f"{p}B": 1000.0**power for power, p in enumerate("KMGTPE", start=1)} | {"kB": 1e3}
_BYTES = _BINARY | _DECIMAL | {"B": 1.0, "byte": 1.0, "bytes": 1.0, "字节": 1.0}
_FLOPS = {
    f"{p}{name}": 1000.0**power
    for power, p in enumerate(["", "K", "M", "G", "T", "P", "E", "Z"])
    for name in ("FLOP", "FLOPs", "FLOPS")
}
_TIME = (
    dict.fromkeys(("s", "sec", "second", "seconds", "秒"), 1.0)
    | dict.fromkeys(("ms", "millisecond", "milliseconds", "毫秒"), 1e-3)
    | dict.fromkeys(("µs", "μs", "us", "microsecond", "microseconds", "微秒"), 1e-6)
    | dict.fromkeys(("ns", "nanosecond", "nanoseconds", "纳秒"), 1e-9)
    | dict.fromkeys(("min", "minute", "minutes", "分钟"), 60.0)
    | dict.fromkeys(("h", "hour", "hours", "小时"), 3600.0)
    | dict.fromkeys(("day", "days", "天"), 86400.0)
)
_PERCENT = {"%": 0.01, "percent": 0.01}
_FACTOR = {"×": 1.0, "x": 1.0, "倍": 1.0}
_COUNTED = {"parameter": 1.0, "parameters": 1.0, "params": 1.0, "参数": 1.0, "个参数": 1.0}
_BITS = {"bit": 1.0, "bits": 1.0, "比特": 1.0} | {f"{p}bit": 1000.0**i for i, p in enumerate("KMGT", start=1)}
_TOKENS = {"token": 1.0, "tokens": 1.0, "tok": 1.0, "个 token": 1.0}

_UNITS: dict[str, tuple[float, Dimension]] = {
    name: (factor, dimension)
    for table, dimension in (
        (_BYTES, Dimension.BYTES),
        (_FLOPS, Dimension.FLOPS),
        (_TIME, Dimension.TIME),
        (_PERCENT, Dimension.PERCENT),
        (_FACTOR, Dimension.FACTOR),
        (_COUNTED, Dimension.PARAMETERS),
        (_BITS, Dimension.PLAIN),
        (_TOKENS, Dimension.PLAIN),
    )
    for name, factor in table.items()
}
_GLUED = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SCALES = {
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "trillion": 1e12,
    "千": 1e3,
    "万亿": 1e12,
    "万": 1e4,
    "亿": 1e8,
}
_ONLY_AFTER_SPACE = frozenset({"s", "h", "min", "B"})  # 1990s is a decade, 7B is 10⁹
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")

_NUMBER = (
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?![\w]))?)"
    r"(?:\s?[×·*]\s?10(?:\^\(?(?P<power>[-−]?\d{1,3})\)?|(?P<small>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3})))?"
)
_SCALE = rf"(?:(?P<glued>[kKMBT])(?![A-Za-z])|\s?(?P<scale>{'|'.join(_SCALES)})(?![A-Za-z]))?"
_UNIT = "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True))
_PER = r"(?:\s?(?:/|per\s)\s?(?P<per>[A-Za-zµμ\u4e00-\u9fff]+))?"
_TAIL = rf"(?:(?P<space>[ \u00a0]?)(?P<unit>{_UNIT})(?![A-Za-z]){_PER})?"
_WRITTEN = re.compile(_NUMBER + _SCALE + _TAIL)
_QUANTITY = re.compile(r"(?<![\w.\-])" + _WRITTEN.pattern)
_VALUE = re.compile(r"(?:[≈~约]\s*)?(?P<sign>[+\-−]?)\s*" + _WRITTEN.pattern + r"(?P<rest>.*)$", re.DOTALL)
_NOUN = re.compile(r"\s*[A-Za-z\u4e00-\u9fff(（/].*|\s*$", re.DOTALL)


def parse_value(text: str) -> Quantity | None:
    """The number that a check states; a noun that is no unit (``32 layers``) counts one by one. None for no number."""
    match = _VALUE.match(text.strip())
    if match is None or not _NOUN.fullmatch(match["rest"]):
        return None
    return _quantity(match, -1.0 if match["sign"] in ("-", "−") else 1.0)


def quantities(text: str) -> Iterator[tuple[int, Quantity]]:
    """Each number with a unit or a factor sign in plain text, and where it starts; digits inside names are left out."""
    for match in _QUANTITY.finditer(text):
        if match["unit"] in _ONLY_AFTER_SPACE and not match["space"]:
            continue
        if match["unit"] in ("×", "x") and (
            match["space"] or re.match(r"\s*[\w(]", text[match.end() : match.end() + 3])
        ):
            continue  # a product, not a factor
        quantity = _quantity(match)
        if quantity.dimension is not Dimension.PLAIN:
            yield match.start(), quantity


def numerals(text: str) -> Iterator[float]:
    """Every number of plain text with its scale, units left aside; digits inside names (``A100``) are no numbers."""
    for match in _QUANTITY.finditer(text):
        yield _number(match) * _scale(match)


def _quantity(match: re.Match[str], sign: float = 1.0) -> Quantity:
    raw = sign * _number(match)
    factor, dimension = _UNITS.get(match["unit"] or "", (1.0, Dimension.PLAIN))
    per = match["per"]
    if per in _TIME and (match["unit"] or "") in _TOKENS:
        dimension = Dimension.RATE
    if dimension is Dimension.PLAIN and match["glued"] == "B" and not match["unit"]:
        dimension = Dimension.PARAMETERS
    worth = _scale(match) * factor / (_UNITS[per][0] if per in _TIME else 1.0)
    return Quantity(match[0].strip(), raw * worth, _last_digit(match) * worth, raw, dimension)


def _number(match: re.Match[str]) -> float:
    try:
        return float(match["number"].replace(",", "")) * 10.0 ** _power(match)
    except OverflowError:
        return float("inf")


def _power(match: re.Match[str]) -> int:
    return int((match["power"] or match["small"] or "0").translate(_SUPERSCRIPT).replace("−", "-"))


def _scale(match: re.Match[str]) -> float:
    return _GLUED[match["glued"]] if match["glued"] else _SCALES.get(match["scale"] or "", 1.0)


def _last_digit(match: re.Match[str]) -> float:
    mantissa, _, exponent = match["number"].lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    try:
        return float(10.0 ** (int(exponent or 0) - decimals + _power(match)))
    except OverflowError:
        return float("inf")
