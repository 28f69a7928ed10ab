"""Sheets of the calculators as text of at most 80 columns, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from llmquiz.calc.sheet import Line, Sheet
from llmquiz.calc.units import show
from llmquiz.calc.words import LINES, problem

WIDTH = 80


def print_sheet(sheet: Sheet, zh: bool, *, as_json: bool) -> None:
    """Each line: its name and value, then below it the formula in words and with its numbers."""
    if as_json:
        print(json.dumps(to_json(sheet), ensure_ascii=False, indent=2))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, width=WIDTH)
    console.print(Text(f"{sheet.calculator}  {sheet.model}", style="bold"))
    console.print(Text(_asked(sheet.inputs), style="dim"))
    for line in sheet.lines:
        words, value = LINES[line.key], show(line.value, line.unit)
        name = words.zh if zh else words.en
        gap = max(2, WIDTH - cell_len(name) - cell_len(value))
        console.print(Text.assemble("\n", name, " " * gap, (value, "bold")))
        for part in _formula(line, words.formula_zh if zh else words.formula_en):
            console.print(Text(f"  {part}", style="dim"))
    for key, fields in sheet.problems:
        console.print(Text.assemble("\n", ("✗ ", "bold red"), problem(key, fields, zh=zh)))


def to_json(sheet: Sheet) -> dict[str, Any]:
    """The stable form: inputs, results by name in base units, problems in English."""
    return {
        "schema": 1,
        "calculator": sheet.calculator,
        "model": sheet.model,
        "inputs": sheet.inputs,
        "results": {
            line.key: {"value": line.value, "unit": line.unit, "numbers": line.numbers} for line in sheet.lines
        },
        "problems": [problem(key, fields, zh=False) for key, fields in sheet.problems],
    }


def print_presets(zh: bool, *, as_json: bool) -> None:
    """Models with their parameters and cache, GPUs with their memory, bandwidth and peak."""
    from llmquiz.calc.presets import BASE, GPUS, SHAPES, find_shape

    shapes = [find_shape(BASE), *SHAPES.values()]
    if as_json:
        models = [
            {"name": it.name, "parameters": it.parameters, "active": it.active, "cached_numbers": it.cached_numbers}
            for it in shapes
        ]
        gpus = [
            {"name": it.name, "memory": it.memory, "bandwidth": it.bandwidth, "flops": it.flops} for it in GPUS.values()
        ]
        print(json.dumps({"schema": 1, "models": models, "gpus": gpus}, indent=2))
        return
    heads = ("模型", "参数", "激活", "KV 缓存/token") if zh else ("model", "parameters", "active", "cache/token (bf16)")
    rows = [
        (
            it.name,
            show(it.parameters, "parameters"),
            show(it.active, "parameters") if it.active != it.parameters else "",
            show(2 * it.cached_numbers, "bytes"),
        )
        for it in shapes
    ]
    _print_table(heads, rows)
    heads = ("GPU", "显存", "带宽", "16 位稠密峰值") if zh else ("GPU", "memory", "bandwidth", "dense 16-bit peak")
    print()
    _print_table(
        heads,
        [
            (it.name, f"{it.memory / 1e9:g} GB", f"{it.bandwidth / 1e9:g} GB/s", f"{it.flops / 1e12:g} TFLOP/s")
            for it in GPUS.values()
        ],
    )


def _print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, width=WIDTH).print(table)


def _asked(inputs: dict[str, Any]) -> str:
    units = {"memory": "GB", "bandwidth": "GB/s", "flops": "TFLOP/s", "train_tokens": "tokens"}
    shown = {name: value for name, value in inputs.items() if value is not None}
    parts = [f"{name} {show(value, units[name]) if name in units else value}" for name, value in shown.items()]
    return " · ".join(part.replace(" ", "\u00a0") for part in parts)  # a name stays with its value when lines wrap


def _formula(line: Line, words: str) -> list[str]:
    """The formula in words and with numbers; together on one line if they fit."""
    from rich.cells import cell_len

    numbers = f"= {_typeset(line.numbers)}" if line.numbers else ""
    parts = [part for part in (_typeset(words), numbers) if part]
    joined = " ".join(parts)
    return [joined] if parts and cell_len(joined) <= WIDTH - 4 else parts


def _typeset(formula: str) -> str:
    """Python's operators as people write them: 2 × 32, thousands with commas."""
    formula = re.sub(r"(?<=\d)_(?=\d)", ",", formula)
    return formula.replace(" * ", " × ").replace(" - ", " − ")
