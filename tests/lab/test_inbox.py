"""Whatever bytes a lab sends, the inbox stays small and the run goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmquiz.lab import inbox as inbox_module
from llmquiz.lab.events import MetricMeasured, Noted, Outcome, Progressed, RunEnded, encode
from llmquiz.lab.inbox import HIGH_WATER, MAX_EVENTS, MAX_LINE, Inbox


def line(event: object) -> bytes:
    return encode(event).encode() + b"\n"


@given(st.lists(st.integers(1, 30)))
def test_lines_may_come_in_any_pieces(sizes: list[int]) -> None:
    stream = b"".join(line(MetricMeasured("a", float(value))) for value in range(5))
    inbox = Inbox()
    for size in sizes:
        inbox.feed(stream[:size])
        stream = stream[size:]
    inbox.feed(stream)

    assert list(inbox.waiting) == [MetricMeasured("a", float(value)) for value in range(5)]


def test_progress_that_nobody_saw_is_folded() -> None:
    inbox = Inbox()
    inbox.feed(b"".join(line(Progressed(done, 1000)) for done in range(1000)))

    assert list(inbox.waiting) == [Progressed(999, 1000)]


def test_a_full_inbox_says_so() -> None:
    inbox = Inbox()
    inbox.feed(line(MetricMeasured("a", 1.0)) * HIGH_WATER)

    assert inbox.full


def test_events_beyond_the_limit_are_counted_and_dropped(monkeypatch: object) -> None:
    inbox = Inbox()
    for _ in range(MAX_EVENTS // 1000):
        inbox.feed(line(MetricMeasured("a", 1.0)) * 1000)
        inbox.waiting.clear()
    inbox.feed(line(MetricMeasured("a", 1.0)) * 7)
    inbox.close()

    assert list(inbox.waiting) == [Noted(f"7 events were dropped: a run has room for {MAX_EVENTS}")]


def test_nonsense_is_noted_once() -> None:
    inbox = Inbox()
    inbox.feed(b"\x1b[2Jhello\n\xff\n\n" + line(MetricMeasured("a", 1.0)) + b"{}\n")
    inbox.close()

    assert list(inbox.waiting) == [
        MetricMeasured("a", 1.0),
        Noted("3 lines of the lab were not events, e.g. '[2Jhello'"),
    ]


def test_an_endless_line_is_skipped_and_not_kept() -> None:
    inbox = Inbox()
    for _ in range(5):
        inbox.feed(b"x" * MAX_LINE)
    inbox.feed(b"\n" + line(MetricMeasured("a", 1.0)))
    inbox.close()

    assert inbox.waiting[0] == MetricMeasured("a", 1.0)
    assert inbox.waiting[1] == Noted("1 lines of the lab were not events")


def test_the_end_that_a_lab_tells_is_a_verdict_and_no_event() -> None:
    inbox = Inbox()
    assert inbox.silent
    inbox.feed(line(RunEnded(Outcome.OK, 0.0)))

    assert inbox.verdict == RunEnded(Outcome.OK, 0.0)
    assert not inbox.waiting
    assert not inbox.silent
    assert inbox_module.MAX_LINE >= 2**16
