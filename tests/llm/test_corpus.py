"""The corpus: true answers, the same text for the same seed, and batches in which every answer can be known."""

from __future__ import annotations

import re
from itertools import islice

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.base.load import FOLDER  # noqa: E402
from llmquiz.llm.data.batches import packed_batch, random_batches, token_stream, weighted_loss  # noqa: E402
from llmquiz.llm.data.bpe import ByteBPE  # noqa: E402
from llmquiz.llm.data.corpus import GENERATORS, SHARES, Document, documents, words  # noqa: E402
from llmquiz.llm.data.corpus.document import CLOSE, OPEN, Span, document  # noqa: E402
from llmquiz.llm.data.corpus.glossary import terms  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402

pytestmark = pytest.mark.labs


def take(count: int, seed: int = 7, **choice: list[str]) -> list[Document]:
    return list(islice(documents(seed, **choice), count))


@pytest.fixture(scope="module")
def tokenizer() -> ByteBPE:
    return ByteBPE.load(FOLDER / "tokenizer.json")


def test_a_seed_gives_the_same_documents_and_another_seed_others() -> None:
    assert take(50) == take(50)
    assert not {doc.text for doc in take(50, seed=8) if doc.kind == "story"} & {doc.text for doc in take(50)}


def test_all_kinds_and_languages_appear_in_their_shares() -> None:
    made = take(2000)

    for kind, share in SHARES.items():
        assert sum(doc.kind == kind for doc in made) / 2000 == pytest.approx(share, abs=0.04)
    assert sum(doc.lang == "zh" for doc in made) / 2000 == pytest.approx(0.5, abs=0.05)
    assert set(GENERATORS) == set(SHARES)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ModelError, match="no kind poems; choose among story"):
        take(1, kinds=["poems"])


def test_markers_leave_no_trace_and_answers_are_where_they_say() -> None:
    made = document("a⟦ b⟧\nc⟦ d⟧", "facts", "en")

    assert made.text == "a b\nc d"
    assert made.answers == (Span(1, 3), Span(5, 7))
    assert made.questions() == [("a", " b"), ("a b\nc", " d")]
    assert made.pieces() == [("a", False), (" b", True), ("\nc", False), (" d", True)]
    for doc in take(500):
        assert not set(doc.text) & {OPEN, CLOSE}
        assert doc.answers
        assert "{" not in doc.text
        assert "".join(piece for piece, _ in doc.pieces()) == doc.text


def test_calculations_are_right() -> None:
    signs = {"+": int.__add__, "-": int.__sub__, "×": int.__mul__}
    found = [
        match
        for doc in take(300, kinds=["arithmetic"])
        for match in re.findall(r"(\d+) ([-+×]) (\d+) = (\d+)", doc.text)
    ]

    assert len(found) > 300
    assert all(signs[sign](int(a), int(b)) == int(c) for a, sign, b, c in found)


def test_recalled_values_are_those_that_were_given() -> None:
    tables = [doc for doc in take(400, kinds=["recall"], languages=["en"]) if doc.text.startswith("Given")]

    for doc in tables:
        given, then = doc.text.split("\n")
        pairs = dict(re.findall(r" (\w+) = (\w+)", given))
        assert pairs | dict(re.findall(r" (\w+) = (\w+)", then)) == pairs


def places_at_the_end(story: str) -> dict[str, str]:
    """A reader of our own: who was last said to be where. Follows names, and `they met there` and pronouns by rule."""
    places: dict[str, str] = {}
    people = "|".join(person.name.en for person in words.PEOPLE)
    last = ""
    for sentence in re.split(r"(?<=[.!]) ", story):
        names = re.findall(rf"\b({people})\b", sentence)
        where = re.findall(r"(?:to|in|left for) the (?!day)(\w+)", sentence)
        if "swapped" in sentence or "gave" in sentence:
            where = []
        if ("met" in sentence or "was there too" in sentence or "came along" in sentence) and names:
            places[next(name for name in reversed(names) if name != last)] = places[last]
        elif re.search(r"\b(left the|put the)\b", sentence):
            places[names[0]] = where[-1]
        elif where:
            mover = names[0] if names else last
            places[mover] = where[0]
        if not last and names:
            last = names[0]
    return places


def test_where_people_are_follows_from_the_story() -> None:
    asked = right = 0
    for doc in take(400, kinds=["story"], languages=["en"]):
        story = doc.text.removeprefix("<|user|>").split("\n")[0]
        known = places_at_the_end(story)
        for name, place in re.findall(r"(?:Answer: |<\|assistant\|>)([A-Z]\w+) is in the (\w+)\.", doc.text):
            asked += 1
            right += known.get(name) == place

    assert asked > 100
    assert right == asked


def test_what_was_given_away_is_with_its_taker() -> None:
    for doc in take(600, kinds=["story"], languages=["en"]):
        moves = re.findall(
            r"gave the (\w+) to (\w+)\.|(\w+) (?:went to|looked in) the \w+ and found the (\w+)", doc.text
        )
        holder = {taken or found: taker or finder for taken, taker, finder, found in moves}
        if "swapped" in doc.text:
            continue
        for thing, who in re.findall(r"The (\w+) is with (\w+)\.", doc.text):
            assert holder.get(thing, who) == who


def test_both_languages_tell_of_the_same_terms() -> None:
    english, chinese = terms("en"), terms("zh")

    assert len(english) == len(chinese) > 70
    assert len({term.definition for term in english}) == len(english)
    assert len({term.name for term in english}) == len(english)


def test_a_token_never_crosses_an_answer(tokenizer: ByteBPE) -> None:
    for doc in take(300):
        pieces = [token for piece, _ in doc.pieces() for token in tokenizer.encode(piece, special=True)]
        assert pieces == tokenizer.encode(doc.text, special=True)


def test_windows_begin_with_a_document_and_targets_are_one_step_ahead(tokenizer: ByteBPE) -> None:
    batch = packed_batch(documents(1), tokenizer, 8, 64, answer_weight=3)

    assert batch.inputs.shape == batch.targets.shape == batch.weights.shape == (8, 64)
    assert (batch.inputs[:, 0] == tokenizer.token_id("<|bos|>")).all()
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert set(batch.weights.flatten().tolist()) == {1, 3}


def test_weights_stand_on_the_answers(tokenizer: ByteBPE) -> None:
    doc = Document("Q: two?\nA: 2", "facts", "en", (Span(10, 12),))

    batch = packed_batch(iter([doc] * 9), tokenizer, 1, 16, answer_weight=5)

    first = batch.targets[0][batch.weights[0] == 5][:2].tolist()
    assert tokenizer.decode(first) == " 2"


def test_documents_that_end_too_early_are_refused(tokenizer: ByteBPE) -> None:
    with pytest.raises(ModelError, match="the documents end before 65 tokens"):
        packed_batch(iter(take(1)), tokenizer, 4, 64)


def test_a_stream_holds_documents_end_to_end(tokenizer: ByteBPE) -> None:
    made = take(3)
    begin, end = tokenizer.token_id("<|bos|>"), tokenizer.token_id("<|eos|>")

    stream = token_stream(made, tokenizer, 10_000).tolist()

    expected = [token for doc in made for token in (begin, *tokenizer.encode(doc.text, special=True), end)]
    assert stream == expected
    assert token_stream(made, tokenizer, 20).tolist() == expected[:20]


def test_random_batches_cut_anywhere_and_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = next(random_batches(torch.arange(9), 64, 8, generator))

    assert torch.equal(targets, inputs + 1)
    assert set(inputs[:, 0].tolist()) == {0}
    with pytest.raises(ModelError, match="8 tokens have no window of 8"):
        next(random_batches(torch.arange(8), 1, 8, generator))


def test_the_weighted_loss_counts_a_token_as_often_as_its_weight_says(tokenizer: ByteBPE) -> None:
    batch = packed_batch(documents(1), tokenizer, 2, 16, answer_weight=3)
    logits = torch.randn(2, 16, tokenizer.vocab_size)

    total, count = weighted_loss(torch.nn.Identity().__class__(), batch._replace(inputs=logits))

    nll = -logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    torch.testing.assert_close(total, sum((nll[batch.weights == w] * w).sum() for w in (1, 3)))
    assert count == batch.weights.sum()
