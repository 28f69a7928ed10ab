"""The lab of quantized caches: its numbers against each other and the formula, and what it refuses."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError  # noqa: E402
from llmquiz.llm.base.load import LanguageModel, TransformersModel, base_model  # noqa: E402

from .running import run_here  # noqa: E402

pytestmark = pytest.mark.labs

LONG = {"outlier-channels", "eight-bits-free", "recent-exact"}  # what a text of 144 tokens may not show


def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("kvquant", tokens=144)
    metrics = results.metrics
    channels, rounding, _, caches = (table.rows for table in results.tables)

    assert results.broken <= LONG
    assert metrics["bits_per_number"] == pytest.approx((128 * (4 + 32 / 32) + 16 * 32) / 144)
    assert len(channels) == base_model().model.config.num_layers
    error = {row[:2]: row[2] for row in rounding}
    assert metrics["key_error_ratio"] == error[4, "token"] / error[4, "channel"]
    assert metrics["step_ratio"] == error[4, "channel"] / error[8, "channel"]
    assert {(point.x, point.series): point.y for point in results.points} == {
        (bits, f"by {axis}"): size for (bits, axis), size in error.items()
    }

    exact, *rounded = caches
    assert exact[1:] == (32, 0, 0, metrics["perplexity"], 1)
    by_bits = {row[0]: row for row in rounded}
    assert metrics["logit_error"] == by_bits["4 bits, keys by channel"][3]
    for column in (2, 3):  # attention and logits: a bit less is worse
        assert [by_bits[f"{bits} bits, keys by channel"][column] for bits in (8, 4, 2)] == sorted(
            row[column] for name, row in by_bits.items() if name.endswith("by channel")
        )
    assert by_bits["2 bits, keys by channel, 64 recent exact"][3] < by_bits["2 bits, keys by channel"][3]


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(LabError, match="has 512 positions; use no more --tokens"):
        run_here("kvquant", tokens=513)
    with pytest.raises(LabError, match="127 tokens are too few to round any after 64; use --tokens 128 or more"):
        run_here("kvquant", tokens=127)
    with pytest.raises(LabError, match="groups of 24 do not fill heads of 32 evenly; use --group 32"):
        run_here("kvquant", group=24)
    other = LanguageModel(TransformersModel(torch.nn.Identity()), base_model().tokenizer, "other")
    with pytest.raises(LabError, match="other is not of the Llama family"):
        run_here("kvquant", {"base_model": lambda *args, **kwargs: other})
