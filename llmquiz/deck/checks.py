"""Recomputes the numbers of a card: arithmetic over Python's own syntax tree, with nothing but numbers in it.

A check cannot run anything: only the operators, functions and constants below exist, and every size is bounded before
it is computed. Besides Python's own arithmetic there are the laws of the calculators, by position and with the defaults
of `llmquiz.calc.formulas`: `kv_cache_bytes(layers, kv_heads, head_dim, tokens, bytes=2)`,
`mla_cache_bytes(layers, rank, rope_dim, tokens, bytes=2)`, `zero_bytes(parameters, gpus, stage)`,
`lora_parameters(in, out, rank)`, `training_flops(parameters, tokens)`, `forward_flops(parameters, tokens=1)`,
`attention_flops(layers, heads, head_dim, queries, keys)`, `activation_bytes(layers, hidden, heads, tokens, batch=1)`,
`pipeline_bubble(stages, micro_batches)`, `ring_all_reduce_bytes(size, gpus)` and
`roofline_seconds(flops, bytes, peak, bandwidth)`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from llmquiz.calc.errors import CalcError
from llmquiz.calc.formulas import CHECKED
from llmquiz.core.card import Check
from llmquiz.deck.quantity import parse_value

Number = int | float

MAX_LENGTH = 400  # characters of an expression
MAX_EXPONENT = 1_024
MAX_BITS = 4_096  # of a whole number
# Quotes and digits that run into words make the reader of Python's syntax warn, on the terminal of whoever studies.
_STRANGE = re.compile(r"[^\w\s.,+\-*/%()]|\d(?:and|else|for|if|in|is|or|not)\b", re.ASCII)

CONSTANTS: dict[str, Number] = {
    "pi": math.pi,
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
    "ceil": math.ceil,
    "floor": math.floor,
    **CHECKED,
}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class CheckError(ValueError):
    """An expression that is no arithmetic, or too large; the message says what and what to do."""


def evaluate(check: Check) -> str | None:
    """What is wrong with `check`, or None if its expression yields its value to the last digit that is written."""
    written = parse_value(check.value)
    if written is None:
        return f"'{check.value[:40]}' is not a number with a unit; write for example 128 KiB, 75% or 1.2 × 10^24 FLOPs"
    try:
        value = compute(check.expression)
    except CheckError as error:
        return str(error)
    if written.agrees(value):
        return None
    return f"`{check.expression}` is {value:.10g}, but the card says {check.value} ({written.value:.10g}); mend one"


def compute(expression: str) -> Number:
    """The value of an arithmetic expression.

    Raises:
        CheckError: if it is not arithmetic, divides by zero, leaves the real numbers, or grows too large.
    """
    return _value(_tree(expression))


def parts(expression: str) -> Iterator[float]:
    """The value of the expression, of each number in it and of each expression inside it."""
    try:
        tree = _tree(expression)
    except CheckError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            try:
                yield float(_value(node))
            except CheckError:
                continue


def _tree(expression: str) -> ast.expr:
    if len(expression) > MAX_LENGTH:
        raise CheckError(f"expression of {len(expression)} characters; at most {MAX_LENGTH}: use several checks")
    if _STRANGE.search(expression):
        raise CheckError(f"`{expression[:60]}` is not arithmetic; write numbers, names and + - * / // % ** ( ) only")
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CheckError(f"`{expression[:60]}` is not arithmetic; write it as in Python, 2 * 32 * 128") from error


def _value(node: ast.expr) -> Number:
    try:
        value = _computed(node)
        if isinstance(value, complex) or not math.isfinite(value):
            raise CheckError(f"`{_source(node)}` is no real number; mend the expression")
    except ZeroDivisionError as error:
        raise CheckError(f"`{_source(node)}` divides by zero; mend the expression") from error
    except (OverflowError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, CheckError):
            raise
        raise CheckError(f"`{_source(node)}` cannot be computed; mend the expression") from error
    number: Number = value
    if isinstance(number, int) and number.bit_length() > MAX_BITS:
        raise CheckError(f"`{_source(node)}` has more than {MAX_BITS} bits; write it as a float, 1e30")
    return number


def _computed(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Name(id=name):
            known = ", ".join([*CONSTANTS, *FUNCTIONS])
            raise CheckError(f"'{name[:40]}' is unknown in a check; known are numbers, {known}")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _combined(type(sign), _value(left), _value(right), node)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _called(name, [_value(argument) for argument in arguments])
        case ast.Tuple():
            raise CheckError(f"comma in `{_source(node)}`; write 163_840 or 163840 in an expression")
    raise CheckError(f"`{_source(node)}` is not allowed in a check; use + - * / // % ** and {', '.join(FUNCTIONS)}")


def _combined(sign: type[ast.operator], left: Number, right: Number, node: ast.expr) -> Any:
    if sign is ast.Pow:
        size = left.bit_length() if isinstance(left, int) else 0
        if abs(right) > MAX_EXPONENT or size * abs(right) > MAX_BITS:
            raise CheckError(f"`{_source(node)}` is too large; write it as a float, 1e30")
    return _OPERATORS[sign](left, right)


def _called(name: str, values: list[Number]) -> Any:
    if name == "round" and len(values) == 2 and abs(values[1]) > 100:
        raise CheckError("round(x, digits) takes at most 100 digits")
    try:
        return FUNCTIONS[name](*values)
    except CalcError as error:
        raise CheckError(f"{name}: {error}") from error


def _source(node: ast.expr) -> str:
    try:
        return ast.unparse(node)[:60]
    except RecursionError:
        return "…"
