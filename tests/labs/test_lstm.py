"""The LSTM lab, small: what is true before training, and a cell that is not torch's."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402

from .running import Results, run_here  # noqa: E402

pytestmark = pytest.mark.labs

TRAINED = {"near-is-recalled", "far-is-lost", "attention-recalls"}  # judged by runs of default size
FEW = {"HELD_OUT": 32, "SAMPLES": 8}


@pytest.fixture(scope="module")
def results() -> Results:
    threads = torch.get_num_threads()
    tiny = run_here("lstm", FEW, size="tiny", short=4, long=16)
    torch.set_num_threads(threads)
    return tiny


def test_its_numbers_agree_with_each_other(results: Results) -> None:
    metrics = results.metrics
    chains = {(p.series, p.x): p.y for p in results.points if p.metric == "chain"}

    assert results.broken <= TRAINED
    assert metrics["gradient_left"] == pytest.approx(metrics["lstm_factor"] ** 15)
    assert metrics["lstm_factor"] < metrics["biased_factor"] < 1
    assert chains["LSTM", 16] == metrics["lstm_chain"]
    assert chains["Transformer", 4] == chains["Transformer", 16] == metrics["transformer_chain"]
    assert (chains["LSTM", 16] - chains["LSTM", 4]) % 12 == 0  # as many operations for each of twelve more steps


def test_gradients_are_relative_to_distance_one(results: Results) -> None:
    for name, factor in (("LSTM", "lstm"), ("LSTM, forget bias 1", "biased"), ("Transformer", "transformer")):
        curve = [(p.x, p.y) for p in results.points if p.metric == "gradient" and p.series == name]
        assert [x for x, _ in curve] == list(range(1, 17))
        assert curve[0][1] == 1
        assert curve[-1][1] == pytest.approx(results.metrics[f"{factor}_factor"] ** 15)


def test_a_cell_with_its_gates_mixed_up_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Input and forget gate exchanged: it trains, and is not an LSTM that loads anybody's weights."""
    from llmquiz.llm.model.lstm import LSTMCell

    def wrong(self: Any, projected: Any, state: Any) -> Any:
        h, c = state
        f, i, g, o = (projected + torch.nn.functional.linear(h, self.weight_hh, self.bias_hh)).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    monkeypatch.setattr(LSTMCell, "step", wrong)

    assert "same-as-torch" in run_here("lstm", FEW, size="tiny", short=4, long=16).broken


def test_two_equal_distances_are_refused() -> None:
    with pytest.raises(LabError, match="--short 16 is not shorter than --long 16"):
        run_here("lstm", size="tiny", short=16, long=16)
