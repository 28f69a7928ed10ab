"""The statistics page: its text at a frozen clock, and that it fits every width in both languages."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from llmquiz.core.card import Lang
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.store import Store
from llmquiz.study import charts, statspage
from llmquiz.study.forecast import Forecast
from llmquiz.study.statistics import Predictions, Recall, Retention, Statistics, Streak, collect
from llmquiz.study.tally import CardStates, DayTally, HardCard, LabTally, TopicMemory
from tests.study.collection import NOON, Collection

TODAY = date(2026, 11, 22).toordinal()
FULL = Statistics(
    at=NOON,
    day=TODAY,
    today=DayTally(34, 34 * 21_000, 5, 12, 13, 20, 22),
    all_time=DayTally(9000, 9000 * 20_000, 400, 100, 120, 1000, 1100),
    retention=(
        Retention("today", Recall(12, 13), Recall(20, 22)),
        Retention("7d", Recall(82, 95), Recall()),
        Retention("30d", Recall(300, 360), Recall(500, 540)),
        Retention("all", Recall(2100, 2400), Recall(4100, 4312)),
    ),
    forecast=Forecast(TODAY, 12, (28, 20, *(15 - day % 5 for day in range(28)))),
    heat={TODAY - day: 1 + day * 7 % 40 for day in range(0, 370, 2)},
    streak=Streak(12, 40),
    cards=CardStates(310, 14, 220, 180, 3),
    topics=(
        TopicMemory("kv-cache", 12, 9, 0.72),
        TopicMemory("attention-scaling", 8, 8, 0.94),
        TopicMemory("rope", 9, 0, None),
    ),
    hardest=(
        HardCard("gqa", "kv", 9.8, 9, {Lang.EN: "Why does $d_k$ matter? " * 6, Lang.ZH: "为什么 $d_k$ 重要？" * 9}),
        HardCard("mla", "kv", 8.1, 2, {Lang.EN: "What is MLA?"}),
    ),
    labs=(
        LabTally("kvcache", 12, NOON - 3600, "ok", 3, 3),
        LabTally("speculative", 3, NOON - 3 * 86_400, "broken", 1, 2),
        LabTally("lora", 1, NOON - 9 * 86_400, "failed", 0, 0),
    ),
    predictions=Predictions(7, 1.8, 1.5),
)


def drawn(stats: Statistics, width: int, lang: Lang = Lang.EN, *, color: str | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=color, force_terminal=color is not None)  # type: ignore[arg-type]
    console.print(statspage.page(stats, lang, width))
    return out.getvalue()


@pytest.mark.parametrize("lang", Lang)
@pytest.mark.parametrize("width", [80, 120])
def test_the_page_reads_as_it_did(width: int, lang: Lang) -> None:
    text = "\n".join(line.rstrip() for line in drawn(FULL, width, lang).splitlines()) + "\n"
    golden = Path(__file__).parent / "golden" / f"stats-{width}-{lang}.txt"
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", Lang)
@pytest.mark.parametrize("width", [40, 60, 79, 80, 100, 104, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int, lang: Lang) -> None:
    assert max(cell_len(line) for line in drawn(FULL, width, lang).splitlines()) <= width


def test_without_colour_the_text_is_the_same() -> None:
    import re

    coloured = drawn(FULL, 80, color="truecolor")
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == drawn(FULL, 80)


def test_sections_have_stable_names() -> None:
    assert [section.name for section in statspage.sections(FULL, Lang.EN, 80)] == [
        "today", "retention", "cards", "forecast", "activity", "topics", "hardest", "labs", "predictions",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_an_empty_collection_is_welcomed(tmp_path: Path, width: int) -> None:
    with Store.open(tmp_path / "empty.db") as store:
        text = drawn(collect(store, NOON, Calendar(), Options()), width)
    assert "Nothing to count yet" in text
    assert "llmquiz study" in text


def test_new_cards_alone_are_counted_in_the_welcome(collection: Collection) -> None:
    stats = collect(collection.store, NOON, collection.calendar, collection.options)
    assert "4 cards are waiting." in drawn(stats, 80)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 4))
def test_columns_are_as_high_as_their_values(values: list[int], height: int, column: int) -> None:
    lines = charts.columns(values, height, column=column)
    assert len(lines) == height
    assert all(line.cell_len == column * len(values) for line in lines)
    heights = [sum(line.plain[column * i] != " " for line in lines) for i in range(len(values))]
    assert all((value == 0) == (high == 0) for value, high in zip(values, heights, strict=True))
    assert all(
        heights[i] >= heights[j] for i in range(len(values)) for j in range(len(values)) if values[i] > values[j]
    )


@pytest.mark.parametrize(("share", "filled"), [(0.0, 0), (0.5, 10), (1.0, 20), (1.5, 20), (-1.0, 0)])
def test_a_bar_tells_its_share_by_weight(share: float, filled: int) -> None:
    assert charts.bar(share, 20).plain == "━" * filled + "─" * (20 - filled)


def test_one_huge_day_does_not_pale_the_others() -> None:
    steps = charts.thresholds([1, 2, 3, 4, 1000])
    assert [charts.level(count, steps) for count in (0, 1, 2, 3, 4, 1000)] == [0, 1, 2, 3, 4, 4]


def test_the_heatmap_ends_with_today() -> None:
    lines = charts.heatmap({TODAY: 5}, TODAY, 4, Lang.EN)
    assert date.fromordinal(TODAY).weekday() == 6
    assert lines[7].plain.rstrip().endswith("██") or lines[7].plain.rstrip().endswith("░░")
    assert sum(line.plain.count("░") + line.plain.count("█") for line in lines) == 2


def test_days_to_come_are_left_blank() -> None:
    monday = date(2026, 11, 23).toordinal()
    lines = charts.heatmap({}, monday, 2, Lang.EN)
    assert [line.plain.count("·") for line in lines[1:]] == [2, 1, 1, 1, 1, 1, 1]
