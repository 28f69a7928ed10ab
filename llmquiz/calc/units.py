"""Numbers with units, read from the command line and written for people."""

from __future__ import annotations

import re

from llmquiz.calc.errors import CalcError

_BINARY = {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)}
_DECIMAL = {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGTP", start=1)}
_SCALES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([KMGTP]i?B|B)?", re.ASCII)
_COUNT = re.compile(r"(\d{1,15}(?:\.\d{1,6})?(?:e\d{1,2})?)\s*([KMBT])?", re.ASCII | re.IGNORECASE)

_FLOPS = ("FLOPs", "kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs", "PFLOPs")

BITS = {"fp32": 32.0, "bf16": 16.0, "fp16": 16.0, "fp8": 8.0, "int8": 8.0, "nf4": 4.127, "int4": 4.0}


def read_bytes(text: str, option: str) -> float:
    """`80GiB`, `80 GB` or, without a unit, GB."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or not (value := float(match[1])):
        raise CalcError(f"{option} '{text[:30]}' is no size; write 80GB or 80GiB")
    unit = match[2] or "GB"
    return value * (1 if unit == "B" else (_BINARY | _DECIMAL)[unit])


def read_count(text: str, option: str) -> float:
    """`15T`, `2.5B`, `1e12` or `4096`."""
    match = _COUNT.fullmatch(text.strip())
    if match is None or not (value := float(match[1]) * _SCALES.get((match[2] or "").upper(), 1.0)):
        raise CalcError(f"{option} '{text[:30]}' is no number; write 15T, 2.5B or 4096")
    return value


def read_bits(name: str, option: str) -> float:
    """Bits of one number of a format; nf4 with double quantization takes 4.127 (QLoRA, section 3)."""
    if name not in BITS:
        raise CalcError(f"{option} '{name[:30]}' is not one of {', '.join(BITS)}")
    return BITS[name]


def show(value: float, unit: str) -> str:
    """A value with its unit, in three to four digits that people can say."""
    if unit == "bytes":
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
    if unit in ("GB", "GB/s", "TFLOP/s"):
        return f"{value / (1e12 if unit == 'TFLOP/s' else 1e9):,.6g} {unit}"
    if unit.startswith("FLOPs"):
        large = value >= 1e18
        shown = f"{value:.3g} FLOPs".replace("e+", "e") if large else _scaled(value, 1000, _FLOPS)
        return shown + unit.removeprefix("FLOPs")
    if unit == "s":
        return _seconds(value)
    if unit == "share":
        return f"{100 * value:.3g}%"
    if unit == "parameters":
        return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:.4g}M" if value < 1e9 else f"{value / 1e9:.4g}B"
    number = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def plain(number: float) -> str:
    """A number inside a filled-in formula: as short as it is exact, in Python's syntax."""
    if number == int(number) and abs(number) < 1e6:
        return str(int(number))
    if number == int(number) and abs(number) < 1e15:
        digits = str(int(number))
        zeros = len(digits) - len(digits.rstrip("0"))
        return f"{float(number):g}".replace("e+", "e") if len(digits) - zeros <= 4 else f"{int(number):_}"
    return f"{number:.6g}".replace("e+", "e")


def _scaled(value: float, base: int, names: tuple[str, ...]) -> str:
    power = 0
    while value >= base and power < len(names) - 1:
        value /= base
        power += 1
    return f"{value:.4g} {names[power]}"


def _seconds(value: float) -> str:
    for size, name in ((86_400 * 365.25, "years"), (86_400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if value >= size * (2 if size >= 60 else 1):
            return f"{value / size:.3g} {name}"
    return f"{value * 1e6:.3g} µs"
