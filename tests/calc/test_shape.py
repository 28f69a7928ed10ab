"""Parameters by formula equal the published totals; a config.json from anybody is read or refused in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from llmquiz.calc.config import MAX_BYTES, read_shape
from llmquiz.calc.errors import CalcError
from llmquiz.calc.presets import BASE, GPUS, SHAPES, find_gpu, find_shape

PUBLISHED = {  # numbers in the released weights, a tied head counted once
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "deepseek-v3": 671_026_419_200,
    "gpt-2": 124_439_808,
    "gpt-2-xl": 1_557_611_200,
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert find_shape(name).parameters == PUBLISHED[name]


def test_every_preset_is_checked() -> None:
    assert {*SHAPES} - {*PUBLISHED} == {"gpt-3-175b"}
    assert find_shape("gpt-3-175b").parameters == pytest.approx(175e9, rel=3e-3)  # table 2.1 rounds to 175.0 billion


@pytest.mark.parametrize(
    ("name", "billions"),
    [("mixtral-8x7b", 12.9), ("qwen3-30b-a3b", 3.35), ("qwen3-235b-a22b", 22.2), ("deepseek-v3", 37.6)],
)
def test_active_parameters_are_the_published_ones(name: str, billions: float) -> None:
    assert find_shape(name).active / 1e9 == pytest.approx(billions, abs=0.05)


def test_deepseeks_own_count_leaves_the_lookup_out() -> None:
    assert find_shape("deepseek-v3").multiplying / 1e9 == pytest.approx(36.6, abs=0.05)


@pytest.mark.parametrize(
    ("name", "kib"),
    [("llama-2-7b", 512), ("llama-3-8b", 128), ("llama-3-70b", 320), ("qwen3-32b", 256), ("deepseek-v3", 68.625)],
)
def test_cache_of_a_token_in_bf16(name: str, kib: float) -> None:
    assert find_shape(name).cached_numbers * 2 / 1024 == kib


def test_experts_that_a_batch_wakes() -> None:
    mixtral = find_shape("mixtral-8x7b")

    assert mixtral.expert_share(1) == 2 / 8
    assert mixtral.expert_share(2) == pytest.approx(1 - (6 / 8) ** 2)
    assert find_shape("llama-3-8b").expert_share(1) == 1


def test_names_forgive_case_and_mistakes_are_told() -> None:
    assert find_shape(" Llama-3-8B ").name == "llama-3-8b"
    assert find_gpu("H100") is GPUS["h100"]
    with pytest.raises(CalcError, match=r"model 'llama-3-9b' is not known; try .*llama-3-8b"):
        find_shape("llama-3-9b")
    with pytest.raises(CalcError, match="GPU 'x'"):
        find_gpu("x")


def test_the_shipped_model_is_read_from_its_own_config() -> None:
    folder = Path(__file__).parents[2] / "llmquiz" / "llm" / "base"
    with (folder / "model.safetensors").open("rb") as weights:
        header = json.loads(weights.read(int.from_bytes(weights.read(8), "little")))
    numbers = sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")

    assert find_shape(BASE).parameters == numbers


def write(tmp_path: Path, fields: Any) -> Path:
    file = tmp_path / "config.json"
    file.write_text(fields if isinstance(fields, str) else json.dumps(fields), encoding="utf-8")
    return file


def test_a_config_and_its_folder_give_the_preset(tmp_path: Path) -> None:
    file = write(tmp_path, LLAMA)

    for place in (file, tmp_path):
        shape = read_shape(place)
        assert shape.parameters == PUBLISHED["llama-3-8b"]
        assert shape.cached_numbers == find_shape("llama-3-8b").cached_numbers


FAMILIES: dict[str, dict[str, Any]] = {
    "mistral-7b": LLAMA | {"model_type": "mistral", "vocab_size": 32_000, "sliding_window": 4096},
    "mixtral-8x7b": LLAMA
    | {"model_type": "mixtral", "vocab_size": 32_000, "num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18_944,
        "sliding_window": 131_072,
        "use_sliding_window": False,
    },
    "qwen3-32b": {
        "model_type": "qwen3",
        "vocab_size": 151_936,
        "hidden_size": 5120,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 25_600,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 6144,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        "vocab_size": 129_280,
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "intermediate_size": 18_432,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "q_lora_rank": 1536,
        "n_routed_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "n_shared_experts": 1,
        "first_k_dense_replace": 3,
    },
    "gpt-2": {
        "model_type": "gpt2",
        "vocab_size": 50_257,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
    },
}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_read_with_its_habits(name: str, tmp_path: Path) -> None:
    shape, preset = read_shape(write(tmp_path, FAMILIES[name])), find_shape(name)

    assert shape.parameters == preset.parameters
    assert (shape.active, shape.multiplying) == (preset.active, preset.multiplying)
    assert shape.cached_numbers == preset.cached_numbers
    assert shape.window == (4096 if name == "mistral-7b" else 0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not readable as JSON"),
        ("[1]", "not an object"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not readable as JSON"),
        (" " * (MAX_BYTES + 1), "larger than 1 MiB"),
        ({**LLAMA, "model_type": "bert"}, "'bert' is not one of"),
        ({**LLAMA, "model_type": ["llama"]}, "is not one of"),
        ({**LLAMA, "hidden_size": None}, "'hidden_size' is missing"),
        ({**LLAMA, "hidden_size": "4096"}, "'hidden_size' is '4096', not a whole number"),
        ({**LLAMA, "hidden_size": True}, "'hidden_size' is 'True', not a whole number"),
        ({**LLAMA, "num_hidden_layers": -1}, "'num_hidden_layers' is '-1'"),
        ({**LLAMA, "num_hidden_layers": 10**30}, "'num_hidden_layers' is '1000"),
        ({**LLAMA, "vocab_size": 1e9}, "'vocab_size'"),
        ({**LLAMA, "num_key_value_heads": 3}, "cannot share 3"),
        ({**LLAMA, "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3}, "do not fit"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_hostile_config_is_refused_with_its_path(content: Any, problem: str, tmp_path: Path) -> None:
    file = write(tmp_path, content)

    with pytest.raises(CalcError, match=problem) as caught:
        read_shape(file)
    assert str(caught.value).startswith((str(file), "llama"))


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(CalcError, match="no such file"):
        read_shape(tmp_path / "none.json")
    with pytest.raises(CalcError, match="no such file"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalcError, match="not readable as JSON"):
        read_shape(tmp_path)


@pytest.mark.slow
@pytest.mark.labs
@pytest.mark.parametrize("name", ["qwen3-0.6b", "mixtral-8x7b", "deepseek-v3"])
def test_transformers_counts_the_same(name: str, tmp_path: Path) -> None:
    """On the meta device, where a model has shapes and no memory; two layers, one of them dense for DeepSeek."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    fields = FAMILIES.get(name) or {
        **FAMILIES["qwen3-32b"],
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 3072,
        "tie_word_embeddings": True,
    }
    small = {**fields, "num_hidden_layers": 2, "vocab_size": 1000}
    if name == "deepseek-v3":
        small |= {"first_k_dense_replace": 1}
    config = transformers.AutoConfig.for_model(**small)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    biases = sum(buffer.numel() for key, buffer in model.named_buffers() if key.endswith("e_score_correction_bias"))

    assert read_shape(write(tmp_path, small)).parameters == sum(p.numel() for p in model.parameters()) + biases
