"""The JSON mode as a program sees it: one response a request, errors as objects, nothing else."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from llmquiz.core.errors import ExitCode
from llmquiz.core.rating import Rating
from llmquiz.study import jsonl
from tests.store.notes import REVERSED, add_note, add_notetype
from tests.study.collection import NOON, Collection


def talk(collection: Collection, *requests: object, language: str = "en", **scope: object) -> list[dict[str, Any]]:
    """The responses to `requests`, which are JSON values or raw lines."""
    lines = [request if isinstance(request, str) else json.dumps(request) for request in requests]
    stdout = io.StringIO()
    stdin = io.StringIO("".join(f"{line}\n" for line in lines))
    assert jsonl.run(collection.session(**scope), stdin, stdout, language, clock=collection.clock) is ExitCode.OK
    return [json.loads(line) for line in stdout.getvalue().splitlines()]


def do(what: str, **fields: object) -> dict[str, object]:
    return {"do": what, **fields}


def test_next_shows_the_question_and_keeps_the_answer_back(collection: Collection) -> None:
    (response,) = talk(collection, do("next"), card="scale")
    assert response == {
        "ok": True,
        "do": "next",
        "card": {
            "id": "scale",
            "ordinal": 0,
            "deck": "transformer",
            "topic": "attention",
            "kind": "open",
            "level": "L1",
            "frequency": "high",
            "state": "new",
            "flag": 0,
            "leech": False,
            "lab": None,
            "texts": {"en": {"question": "Why divide by $\\sqrt{d_k}$?", "choices": []}},
            "ratings": {
                "again": {"label": "1m", "seconds": 60, "days": None},
                "hard": {"label": "6m", "seconds": 330, "days": None},
                "good": {"label": "10m", "seconds": 600, "days": None},
                "easy": {"label": "8d", "seconds": None, "days": 8},
            },
        },
    }


def test_reveal_adds_the_answer_in_every_language(collection: Collection) -> None:
    (response,) = talk(collection, do("reveal"), language="both", card="scale")
    assert list(response["card"]["texts"]) == ["en", "zh"]
    english = response["card"]["texts"]["en"]
    assert english["answer"].startswith("It keeps the **variance** at one.\n\n- softmax stays soft")
    assert english["key_points"] == ["variance is d_k", "softmax saturates", "gradients vanish"]
    assert english["pitfall"] == "It is not for speed."
    assert response["card"]["sources"] == ["Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>"]


def test_a_note_from_anki_has_its_faces(collection: Collection) -> None:
    with collection.store.transaction() as connection:
        add_notetype(connection, REVERSED)
        add_note(connection, "anki-dog", "el <b>perro</b>", "the dog")
    (response,) = talk(collection, do("reveal"), card="anki-dog")
    text = response["card"]["texts"]["en"]
    assert (text["question"], text["answer"]) == ("el **perro**", "the dog")


def test_choices_come_in_the_shown_order(collection: Collection) -> None:
    front, back = talk(collection, do("next"), do("reveal"), card="cache-size")
    choices = front["card"]["texts"]["en"]["choices"]
    assert sorted(choices) == ["128 KiB", "512 KiB", "64 KiB"]
    told = back["card"]["texts"]["en"]
    assert [choices[number - 1] for number in told["right"]] == ["128 KiB"]
    assert told["why"][choices.index("64 KiB")] == "Forgets the values."


def test_a_cloze_card_hides_and_reveals_its_gap(collection: Collection) -> None:
    front, back = talk(collection, do("next"), do("reveal"), card="weights")
    assert "softmax" not in json.dumps(front)
    assert "**softmax**" in back["card"]["texts"]["en"]["answer"]


@pytest.mark.parametrize("rating", [3, "good"])
def test_rate_writes_the_answer(collection: Collection, rating: object) -> None:
    _, response = talk(collection, do("next"), do("rate", rating=rating, duration_ms=1234, card="scale"), card="scale")
    assert response == {
        "ok": True,
        "do": "rate",
        "card": "scale",
        "rating": "good",
        "next": {"label": "10m", "seconds": 600, "days": None},
        "leech": False,
        "suspended": False,
        "buried_siblings": 0,
    }
    kept = collection.store.connection.execute("SELECT rating, duration_ms FROM review").fetchall()
    assert kept == [(Rating.GOOD, 1234)]


def test_undo_suspend_bury_flag_and_counts(collection: Collection) -> None:
    responses = talk(
        collection,
        do("rate", rating="easy"),
        do("undo"),
        do("flag", flag=2),
        do("suspend"),
        do("bury"),
        do("counts"),
        do("quit"),
        do("counts"),
        decks=["transformer"],
    )
    assert [response["ok"] for response in responses] == [True] * 7
    assert responses[1] == {"ok": True, "do": "undo", "undone": "rate", "card": "scale"}
    assert responses[2]["flag"] == 2
    assert (responses[3]["card"], responses[4]["card"]) == ("scale", "weights")
    assert responses[5] == {"ok": True, "do": "counts", "new": 0, "learning": 0, "review": 0, "answered": 0}
    assert responses[6] == {"ok": True, "do": "quit", "answered": 0}


def test_with_nothing_due_next_tells_what_comes(collection: Collection) -> None:
    for card in ("scale", "weights", "cache-size", "speedup"):
        collection.answer(card, Rating.EASY)
    (response,) = talk(collection, do("next"))
    assert (response["card"], response["next_due"], response["new_left"]) == (None, None, 0)
    assert response["next_day"] > "2026-11-22"


@pytest.mark.parametrize(
    ("card", "answer", "suggested"),
    [
        ("scale", {"points": [1, 3]}, "hard"),
        ("scale", {"points": []}, "again"),
        ("weights", {"typed": "Softmax"}, "good"),
    ],
)
def test_grade_suggests_without_rating(
    collection: Collection, card: str, answer: dict[str, object], suggested: str
) -> None:
    (response,) = talk(collection, do("grade", **answer), card=card)
    assert response == {"ok": True, "do": "grade", "card": card, "suggested": suggested}
    assert collection.store.connection.execute("SELECT count(*) FROM review").fetchone() == (0,)


@pytest.mark.parametrize(
    ("request_", "card", "message"),
    [
        ("{", "scale", "request is not JSON"),
        ("[" * 100_000, "scale", "request is not JSON"),
        ("[]", "scale", "no 'do' among"),
        ('{"do": 3}', "scale", "no 'do' among"),
        (do("dance"), "scale", "no 'do' among"),
        (do("rate"), "scale", "needs 'rating'"),
        (do("rate", rating=5), "scale", "rating 5 is not one of"),
        (do("rate", rating=True), "scale", "must be text or a whole number, not true"),
        (do("rate", rating="good", duration_ms="3"), "scale", "'duration_ms' must be a whole number"),
        (do("rate", rating="good", card="weights"), "scale", "'weights' is not the present card"),
        (do("flag", flag=8), "scale", "flag 8 is not one of 0-7"),
        (do("grade", points=[4]), "scale", "numbers from 1 to 3"),
        (do("grade", points=[[1]]), "scale", "numbers from 1 to 3"),
        (do("grade", points=[True]), "scale", "numbers from 1 to 3"),
        (do("grade", choice=9), "cache-size", "choice 9 is not one of 1-3"),
        (do("grade", guess=9), "speedup", "'speedup' is graded by its lab"),
    ],
)
def test_a_request_that_cannot_be_obeyed_changes_nothing(
    collection: Collection, request_: object, card: str, message: str
) -> None:
    before = list(collection.store.connection.iterdump())
    response, after = talk(collection, request_, do("counts"), card=card)
    assert response["ok"] is False
    assert set(response) == {"ok", "do", "error"}
    assert response["error"]["type"] == "RequestError"
    assert message in response["error"]["message"]
    assert after["ok"] is True
    assert list(collection.store.connection.iterdump()) == before


def test_acting_without_a_card_is_an_error(collection: Collection) -> None:
    collection.store.sync([], now=NOON, gone={"transformer", "inference"})
    for response in talk(collection, do("reveal"), do("rate", rating=3), do("suspend"), do("bury")):
        assert "there is no card now" in response["error"]["message"]


def test_time_runs_from_the_first_next(collection: Collection) -> None:
    mode = jsonl.JsonLines(collection.session(card="scale"), "en", collection.clock)
    mode.answer('{"do": "next"}')
    collection.clock.now += 3
    mode.answer('{"do": "next"}')
    collection.clock.now += 4
    mode.answer('{"do": "rate", "rating": 4}')
    assert collection.store.connection.execute("SELECT duration_ms FROM review").fetchone() == (7000,)


def test_a_rating_without_next_takes_no_time(collection: Collection) -> None:
    talk(collection, do("rate", rating=4), card="scale")
    assert collection.store.connection.execute("SELECT duration_ms FROM review").fetchone() == (0,)


def test_blank_lines_are_passed_over(collection: Collection) -> None:
    assert len(talk(collection, "", "   ", do("counts"))) == 1
