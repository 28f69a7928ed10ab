"""Positions belong to the time axis, continue where the past ends, and end where they end."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.block import Design, Positions, TransformerLM  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.positions import LearnedPositions, SinusoidalPositions, alibi_bias, alibi_slopes  # noqa: E402
from llmquiz.llm.model.positions.absolute import sinusoids  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(20, 16, 2, 4, 4, 4, 32, max_position=12)
KINDS = [SinusoidalPositions, LearnedPositions]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_the_waves_are_the_papers() -> None:
    table = sinusoids(50, 8)

    for t in (0, 1, 7, 49):
        for i in range(4):
            angle = t / 10_000 ** (2 * i / 8)
            assert float(table[t, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(table[t, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_depends_on_time_not_on_the_row(kind: type) -> None:
    positions = kind(12, 16)
    added = positions(torch.zeros(3, 12, 16))

    assert (added[0] == added[1]).all()
    assert (added[0] == added[2]).all()
    assert torch.cdist(added[0], added[0]).fill_diagonal_(9.0).min() > 0.1  # no two places alike


@pytest.mark.parametrize("kind", KINDS)
def test_new_tokens_stand_where_the_past_ends(kind: type) -> None:
    positions, x = kind(12, 16), torch.randn(2, 9, 16)
    whole = positions(x)

    assert (positions(x[:, 6:], offset=6) == whole[:, 6:]).all()
    assert not torch.allclose(positions(x[:, 6:]), whole[:, 6:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_past_the_last_position_is_refused(kind: type) -> None:
    positions = kind(12, 16)

    with pytest.raises(ModelError, match="13 tokens exceed the table's 12"):
        positions(torch.zeros(1, 13, 16))
    with pytest.raises(ModelError, match="13 tokens exceed the table's 12"):
        positions(torch.zeros(1, 1, 16), offset=12)


def test_an_odd_width_ends_on_a_sine() -> None:
    odd = sinusoids(9, 7)

    assert odd.shape == (9, 7)
    torch.testing.assert_close(odd[:, 6], torch.sin(torch.arange(9.0) / 10_000 ** (6 / 7)))


def test_only_learned_positions_are_trained() -> None:
    assert not SinusoidalPositions(12, 16).state_dict()
    assert LearnedPositions(12, 16).state_dict()["table"].shape == (12, 16)


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned", "rope", "alibi"])
def test_without_positions_shuffling_the_past_changes_nothing(positions: Positions) -> None:
    """The last token sees all others; without positions it sees a bag. Only through one layer: in two, the causal mask
    itself tells a token how many stand before it."""
    model = TransformerLM(ModelConfig(20, 16, 1, 4, 4, 4, 32, max_position=12), Design(positions=positions)).eval()
    tokens = torch.arange(10)[None]
    shuffled = torch.tensor([[3, 0, 2, 1, 8, 7, 4, 6, 5, 9]])
    change = float((model(tokens)[:, -1] - model(shuffled)[:, -1]).detach().abs().max())

    assert change < 1e-5 if positions == "none" else change > 1e-3


def test_slopes_of_a_power_of_two_are_a_geometric_sequence() -> None:
    torch.testing.assert_close(alibi_slopes(8), torch.tensor([2.0**-i for i in range(1, 9)]))
    torch.testing.assert_close(alibi_slopes(1), torch.tensor([2.0**-8]))


@pytest.mark.parametrize("heads", [3, 6, 12, 20])
def test_any_number_of_heads_has_slopes_of_its_own(heads: int) -> None:
    slopes = alibi_slopes(heads)

    assert len(set(slopes.tolist())) == heads
    assert (slopes > 0).all()
    assert (slopes < 1).all()


def test_the_bias_is_linear_in_the_distance() -> None:
    slopes = alibi_slopes(4)
    bias = alibi_bias(slopes, 3, 10)  # three new tokens after seven

    assert bias.shape == (4, 3, 10)
    for head, slope in enumerate(slopes):
        assert bias[head, 0, 7] == 0  # itself
        assert float(bias[head, 2, 9]) == 0
        torch.testing.assert_close(bias[head, 2, :-1] - bias[head, 2, 1:], -slope.expand(9))


@pytest.mark.slow
@pytest.mark.parametrize("heads", [4, 12])
def test_slopes_are_those_of_bloom(heads: int) -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 6), heads, torch.float32).view(heads, 6)  # slope * key position

    torch.testing.assert_close(alibi_slopes(heads)[:, None] * torch.arange(6.0), theirs)
