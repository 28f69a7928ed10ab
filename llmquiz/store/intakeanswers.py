"""Answers of a text file's notes, made to fit the log: out of range is brought into it, what cannot be is left out."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from operator import itemgetter
from typing import Any, TypeAlias

from llmquiz.store.incoming import IncomingPart, IncomingReview
from llmquiz.store.soundness import CENTURY, EARLIEST_MS, MOST, Findings

_Row: TypeAlias = tuple[Any, ...]

_CENTURY_SECONDS = CENTURY * 86_400


def answers(part: IncomingPart, number: int, latest_ms: int, findings: Findings) -> Iterator[_Row]:
    """Rows of the staging table ``review`` for the part that has this `number` there, the oldest first."""
    sound = (_mended(review, latest_ms, findings) for review in part.reviews)
    last: int | None = None
    for review in sorted([review for review in sound if review], key=itemgetter(0)):
        at, rating, state, interval, last_interval, duration, stability, difficulty, kind, factor = review
        since = None if last is None else at - last
        yield (
            at,
            number,
            rating,
            state + 0,
            interval,
            last_interval,
            stability,
            difficulty,
            duration,
            kind,
            factor,
            since,
        )
        if rating:
            last = at


def _mended(review: IncomingReview, latest_ms: int, findings: Findings) -> IncomingReview | None:
    """The answer with its numbers in range; None if it cannot have been given."""
    if not isinstance(review.id, int) or not EARLIEST_MS <= review.id <= latest_ms:
        findings.count("answers dated in the future or before 1970, left out")
        return None
    if review.rating not in range(5) or review.state not in range(4):
        findings.count("answers with an unknown rating or state, left out")
        return None
    numbers = (review.interval, review.last_interval, review.duration_ms)
    if not all(isinstance(number, int) for number in numbers):
        findings.count("answers with intervals that are no numbers, left out")
        return None
    if _is_sound(review):
        return review
    findings.count("answers with numbers out of range, brought into it")
    known = _is_memory(review)
    return review._replace(
        rating=int(review.rating),
        interval=_bounded(review.interval, -_CENTURY_SECONDS, _CENTURY_SECONDS),
        last_interval=_bounded(review.last_interval, -_CENTURY_SECONDS, _CENTURY_SECONDS),
        duration_ms=_bounded(review.duration_ms, 0, MOST),
        stability=review.stability if known else 0.0,
        difficulty=review.difficulty if known else 0.0,
        type=_small(review.type),
        factor=_small(review.factor),
    )


def _is_sound(review: IncomingReview) -> bool:
    return (
        -_CENTURY_SECONDS <= review.interval <= _CENTURY_SECONDS
        and -_CENTURY_SECONDS <= review.last_interval <= _CENTURY_SECONDS
        and 0 <= review.duration_ms <= MOST
        and (review.stability == review.difficulty == 0 or _is_memory(review))
        and (review.type is None or 0 <= review.type <= MOST)
        and (review.factor is None or 0 <= review.factor <= MOST)
    )


def _is_memory(review: IncomingReview) -> bool:
    return isfinite(review.stability) and 0 < review.stability <= CENTURY and 1 <= review.difficulty <= 10


def _bounded(number: int, lowest: int, highest: int) -> int:
    return min(max(number, lowest), highest)


def _small(number: int | None) -> int | None:
    return None if number is None or not isinstance(number, int) else _bounded(number, 0, MOST)
