"""The wire format against Google's own encoder, and bytes that are no message."""

from __future__ import annotations

import math

import pytest
from anki import deck_config_pb2, import_export_pb2, notetypes_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.anki.archive import wire
from llmquiz.anki.archive.wire import Message, WireError


def test_reads_what_protobuf_writes() -> None:
    config = notetypes_pb2.Notetype.Config(kind=1, sort_field_idx=3, css="é{}", target_deck_id_unused=-5)
    config.reqs.add(card_ord=2, kind=1, field_ords=[0, 300, 70_000])
    config.other = b'{"a":1}'
    message = Message(config.SerializeToString())
    assert (message.unsigned(1), message.unsigned(2), message.text(3), message.signed(4)) == (1, 3, "é{}", -5)
    (requirement,) = message.messages(8)
    assert requirement.integers(3) == [0, 300, 70_000]
    assert message.data(255) == b'{"a":1}'
    assert 10 not in message


def test_an_absent_field_is_the_zero_of_its_type() -> None:
    message = Message(b"")
    assert (message.unsigned(1), message.signed(1), message.text(1), message.data(1)) == (0, 0, "", b"")
    assert (message.single(1), message.singles(1), message.integers(1), message.messages(1)) == (0.0, [], [], [])
    assert message.message(1).unsigned(1) == 0


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_single_precision_numbers_are_as_short_as_they_can_be(values: list[float]) -> None:
    config = deck_config_pb2.DeckConfig.Config(learn_steps=values, desired_retention=0.9)
    message = Message(config.SerializeToString())
    assert message.singles(1) == pytest.approx(values, rel=1e-6)
    assert list(deck_config_pb2.DeckConfig.Config(learn_steps=message.singles(1)).learn_steps) == values
    assert message.single(37) == 0.9


def test_numbers_that_are_none_become_zero() -> None:
    config = deck_config_pb2.DeckConfig.Config(learn_steps=[math.inf, math.nan, -math.inf, 1])
    assert Message(config.SerializeToString()).singles(1) == [0, 0, 0, 1]


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**31, 2**32 - 1])
def test_sizes(value: int) -> None:
    entries = import_export_pb2.MediaEntries()
    entries.entries.add(name="x", size=value, sha1=b"\0" * 20)
    (entry,) = Message(entries.SerializeToString()).messages(1)
    assert entry.unsigned(2) == value


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x08", "it ends inside a number"),
        (b"\x80", "it ends inside a number"),
        (b"\x08" + b"\xff" * 10, "a number of more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a number of more than 64 bits"),
        (b"\x0a\x05abc", "a field of 5 bytes where 3 are left"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "a field of 18,446,744,073,709,551,615 bytes where 0 are left"),
        (b"\x0d\x01", "a field of 4 bytes where 1 are left"),
        (b"\x09\x01", "a field of 8 bytes where 1 are left"),
        (b"\x0b\x0c", "a field of the unknown kind 3"),
        (b"\x00\x00", "a field without a number"),
    ],
)
def test_bytes_that_are_no_message(data: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=f"^{problem}$"):
        Message(data)


def test_a_field_of_another_type_than_it_should_be() -> None:
    number, text = Message(b"\x08\x01"), Message(b"\x0a\x01x")
    for getter in (number.data, number.text, number.single, number.singles, number.message, number.messages):
        with pytest.raises(WireError, match="field 1 is an integer"):
            getter(1)
    for getter in (text.unsigned, text.signed):
        with pytest.raises(WireError, match="field 1 is no integer"):
            getter(1)
    with pytest.raises(WireError, match="not four bytes"):
        text.singles(1)


def test_as_many_fields_as_the_reader_allows() -> None:
    assert Message(b"\x08\x01" * 3, most=3).unsigned(1) == 1
    with pytest.raises(WireError, match="more than 3 fields"):
        Message(b"\x08\x01" * 4, most=3)


def test_a_field_of_as_many_numbers_as_a_message_has_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_FIELDS", 3)
    message = Message(notetypes_pb2.Notetype.Config.CardRequirement(field_ords=[1] * 4).SerializeToString())
    with pytest.raises(WireError, match="more than 3 numbers"):
        message.integers(3)
    with pytest.raises(WireError, match="more than 3 numbers"):
        Message(deck_config_pb2.DeckConfig.Config(learn_steps=[1] * 4).SerializeToString()).singles(1)


def test_a_long_number_is_cut_as_every_reader_cuts_it() -> None:
    assert Message(b"\x08" + b"\xff" * 9 + b"\x01").unsigned(1) == 0xFFFF_FFFF
    assert Message(b"\x08" + b"\xff" * 9 + b"\x01").signed(1) == -1


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        message = Message(data)
        for number in range(1, 16):
            for getter in (message.unsigned, message.text, message.singles, message.integers, message.messages):
                try:
                    getter(number)
                except WireError:
                    continue
    except WireError:
        return
