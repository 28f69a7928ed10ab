"""Every line's formula, worked out anew from the numbers that it shows, is its value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from llmquiz.calc.errors import CalcError
from llmquiz.calc.flops import flops
from llmquiz.calc.kvcache import kv_cache
from llmquiz.calc.memory import CHECKPOINTING, Training, inference_memory, training_memory
from llmquiz.calc.parallel import Split, parallel
from llmquiz.calc.presets import GPUS, SHAPES, find_gpu, find_shape
from llmquiz.calc.sheet import Sheet
from llmquiz.calc.units import read_bytes, read_count, show
from llmquiz.calc.words import LINES, PROBLEMS
from llmquiz.deck.checks import compute

LLAMA, DEEPSEEK, H100 = find_shape("llama-3-8b"), find_shape("deepseek-v3"), find_gpu("h100")


def sheets() -> Iterator[Sheet]:
    for shape in SHAPES.values():
        yield kv_cache(shape, context=5000, batch=3, dtype="fp8", memory=80e9)
        yield kv_cache(shape, context=5000, window=4096)
        yield inference_memory(shape, context=4096, batch=2, dtype="int4")
        yield parallel(shape, Split(4, 2, 8, 4), tokens=512, micro_batches=6)
        for gpu in (H100, GPUS["l4"]):
            yield flops(shape, gpu, context=3000, batch=7, train_tokens=2e12, gpus=8, tp=2)
        for stage, checkpointing in enumerate(CHECKPOINTING):
            yield training_memory(shape, Training("full", 8, stage, 8, 1024, 2, checkpointing))
        if shape.latent is None:
            yield training_memory(shape, Training("qlora", stage=3, gpus=4))
            yield training_memory(shape, Training("lora"), memory=1e9)


def test_filled_in_formulas_are_their_values() -> None:
    seen = set()
    for sheet in sheets():
        for line in sheet.lines:
            seen.add(line.key)
            if line.numbers:
                assert compute(line.numbers) == pytest.approx(line.value, rel=2e-5), (sheet.model, line)
            assert show(line.value, line.unit)
        assert all(key in PROBLEMS for key, _ in sheet.problems)
    assert seen == set(LINES)


def test_a_card_of_eighty_gigabytes_serves_fifty_two_sequences() -> None:
    sheet = kv_cache(LLAMA, context=8192, memory=80e9)

    assert sheet["bytes_per_token"] == 128 * 1024
    assert sheet["bytes_per_sequence"] == 2**30
    assert sheet["largest_batch"] == 52
    assert (sheet["largest_batch"] + 1) * 2**30 + sheet["weight_bytes"] > 0.9 * 80e9


def test_a_window_bounds_the_cache_and_a_small_card_holds_nothing() -> None:
    assert kv_cache(LLAMA, context=8192, window=1024)["bytes_per_sequence_window"] == 2**27
    assert kv_cache(LLAMA, context=512, window=1024)["bytes_per_sequence"] == 2**26

    sheet = kv_cache(LLAMA, context=8192, memory=16e9)
    assert sheet["largest_batch"] == 0
    assert [key for key, _ in sheet.problems] == ["does_not_fit"]


def test_seven_billion_parameters_train_in_sixteen_bytes_each() -> None:
    llama2 = find_shape("llama-2-7b")

    assert training_memory(llama2, Training())["state_bytes"] == 16 * llama2.parameters
    assert training_memory(llama2, Training(stage=3, gpus=8))["state_bytes"] == 2 * llama2.parameters


def test_lora_counts_the_matrices_that_peft_would_add() -> None:
    """All seven linear layers of Llama-3-8B at rank 16: 41,943,040 trainable parameters, as peft prints them."""
    sheet = training_memory(LLAMA, Training("lora", rank=16))

    assert sheet["adapter_parameters"] == 41_943_040
    assert sheet["frozen_bytes"] == 2 * LLAMA.parameters
    assert sheet["state_bytes"] == 16 * 41_943_040


def test_decoding_one_sequence_is_bound_by_reading_and_a_large_batch_by_arithmetic() -> None:
    one, many = flops(LLAMA, H100, context=128), flops(LLAMA, H100, context=128, batch=1024)

    assert one["decode_read_time"] > 100 * one["decode_compute_time"]
    assert many["decode_compute_time"] > many["decode_read_time"]
    assert one["decode_rate"] == pytest.approx(3.35e12 / one["decode_bytes"])
    assert one["balanced_batch"] == pytest.approx(989e12 / 3.35e12)


def test_a_mixture_reads_two_experts_for_one_token_and_nearly_all_for_many() -> None:
    mixtral = find_shape("mixtral-8x7b")
    one, many = (flops(mixtral, H100, context=1, batch=batch)["decode_bytes"] for batch in (1, 64))

    assert one == pytest.approx(2 * mixtral.multiplying, rel=1e-4)
    assert many > 0.99 * 2 * (mixtral.parameters - 32_000 * 4096)


def test_latent_attention_reads_little_and_computes_much() -> None:
    grouped = replace(DEEPSEEK, latent=None)
    latent, plain = (flops(shape, H100, context=32_768, tp=16) for shape in (DEEPSEEK, grouped))

    assert DEEPSEEK.cached_numbers * 80 < grouped.cached_numbers
    assert latent["decode_flops"] > plain["decode_flops"]


def test_splits_that_do_not_divide_are_told() -> None:
    mixtral = find_shape("mixtral-8x7b")
    keys = [key for key, _ in parallel(mixtral, Split(3, 5, 4, 6), tokens=8).problems]

    assert keys == ["heads", "kv_heads", "layers", "experts", "ep_of_dp"]
    assert [key for key, _ in parallel(LLAMA, Split(expert=2, data=2), tokens=8).problems] == ["no_experts"]
    assert [key for key, _ in parallel(LLAMA, Split(tensor=3), tokens=8).problems] == ["heads", "kv_heads", "width"]
    assert not parallel(LLAMA, Split(8, 4, 2), tokens=8).problems


def test_more_tensor_parallel_gpus_than_heads_copy_the_cache() -> None:
    at_8, at_16 = (parallel(LLAMA, Split(tensor=tp), tokens=8)["cache_per_gpu"] for tp in (8, 16))

    assert at_8 == at_16 == 16 * 1024
    assert parallel(DEEPSEEK, Split(tensor=8), tokens=8)["cache_per_gpu"] == 70_272


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Training(method="magic"),
        lambda: Training(checkpointing="some"),
        lambda: Split(tensor=0),
        lambda: training_memory(DEEPSEEK, Training("lora")),
        lambda: training_memory(LLAMA, Training("lora", rank=0)),
        lambda: flops(LLAMA, H100, context=1, train_tokens=1e12, utilization=1.5),
        lambda: kv_cache(LLAMA, context=1, memory=1e9, usable=0),
        lambda: read_bytes("many", "--gpu-memory"),
        lambda: read_bytes("0GB", "--gpu-memory"),
        lambda: read_count("1X", "--train-tokens"),
    ],
)
def test_what_cannot_be_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(CalcError):
        wrong()


def test_sizes_and_counts_are_read_as_people_write_them() -> None:
    assert read_bytes("80GB", "") == read_bytes("80", "") == 80e9
    assert read_bytes("24 GiB", "") == 24 * 2**30
    assert read_bytes("512 B", "") == 512
    assert [read_count(text, "") for text in ("15T", "2.5b", "1e12", "4096")] == [15e12, 2.5e9, 1e12, 4096]
