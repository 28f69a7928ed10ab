"""LoRA on a small decoder: what trains, what stays, what is saved, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.errors import AdapterError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.tune.lora import (  # noqa: E402
    LoRAConfig,
    LoRALinear,
    adapter_parameters,
    adapters,
    add_lora,
    base_only,
    lora_layers,
    use_adapter,
)
from llmquiz.llm.tune.merging import merge, unload, unmerge  # noqa: E402
from llmquiz.llm.tune.saving import load_adapter, save_adapter  # noqa: E402
from llmquiz.llm.tune.targets import find_targets  # noqa: E402

pytestmark = pytest.mark.labs

SHAPE = ModelConfig(96, 32, 2, 4, 2, 8, 48, qkv_bias=True, tie_embeddings=True)
ATTENTION = ("q_proj", "v_proj")
KINDS = [{}, {"rslora": True}, {"dora": True}, {"dora": True, "rslora": True}]
TOKENS = torch.randint(0, 96, (2, 11), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> Decoder:
    made = random_decoder(SHAPE, seed=0)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return made


def shake(model: nn.Module, name: str = "default", size: float = 0.1) -> None:
    """As if the adapter had been trained: away from where it changes nothing."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter_parameters(model, name):
            parameter += size * torch.randn(parameter.shape, generator=generator)


def gap(a: Any, b: Any) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_model_starts_as_the_base_model(model: Decoder, kind: dict[str, bool]) -> None:
    before = model(TOKENS)
    add_lora(model, LoRAConfig(4, 8.0, **kind))

    assert len(lora_layers(model)) == 2 * 7
    if kind.get("dora"):  # m / ||W|| is 1 up to rounding
        torch.testing.assert_close(model(TOKENS), before, rtol=0, atol=1e-6)
    else:
        assert torch.equal(model(TOKENS), before)


def test_only_the_factors_train_and_the_first_step_moves_b_alone(model: Decoder) -> None:
    base = {name: parameter.clone() for name, parameter in model.named_parameters()}
    count = add_lora(model, LoRAConfig(4, 8.0, ATTENTION))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model(TOKENS).square().mean().backward()

    assert count == 2 * (4 * (32 + 32) + 4 * (32 + 16))
    assert {name.rpartition(".")[2] for name in trained} == {"A", "B"}
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    for layer in lora_layers(model):
        update = layer.updates()["default"]
        assert update.A.grad.abs().max() == 0
        assert update.B.grad.abs().max() > 0
    optimizer = torch.optim.AdamW(adapter_parameters(model), lr=0.1)
    optimizer.step()
    unload(model)
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, base[name])


def test_the_update_is_the_formula(model: Decoder) -> None:
    layer = model.layers[0].self_attn.q_proj
    x = torch.randn(3, 5, 32)
    for kind, scale in (({}, 8.0 / 4), ({"rslora": True}, 8.0 / 4**0.5)):
        adapted = copy.deepcopy(model)
        add_lora(adapted, LoRAConfig(4, 8.0, ATTENTION, **kind))
        shake(adapted)
        update = adapted.layers[0].self_attn.q_proj.updates()["default"]
        expected = layer(x) + scale * (x @ update.A.T) @ update.B.T
        torch.testing.assert_close(adapted.layers[0].self_attn.q_proj(x), expected, rtol=1e-5, atol=1e-5)


def test_dora_keeps_the_length_of_each_row_and_trains_it(model: Decoder) -> None:
    count = add_lora(model, LoRAConfig(4, 8.0, ("q_proj",), dora=True))
    layer = model.layers[0].self_attn.q_proj
    shake(model)
    update = layer.updates()["default"]

    assert count == 2 * (4 * (32 + 32) + 32)
    torch.testing.assert_close(torch.linalg.vector_norm(layer.weight, dim=1), update.magnitude.abs())
    x = torch.randn(6, 32)
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_keeps_the_outputs_and_can_be_undone(model: Decoder, kind: dict[str, bool]) -> None:
    add_lora(model, LoRAConfig(4, 8.0, **kind))
    shake(model)
    adapted = model(TOKENS)
    base = copy.deepcopy(model)
    merge(model)

    torch.testing.assert_close(model(TOKENS), adapted, rtol=1e-5, atol=1e-5)
    with pytest.raises(AdapterError, match="merged into the weights; unmerge it first"):
        merge(model)
    with pytest.raises(AdapterError, match="unmerge it first"):
        use_adapter(model, None)  # the base would still hold the adapter
    with pytest.raises(AdapterError, match="unmerge it first"), base_only(model):
        pass
    unmerge(model)
    assert torch.equal(model(TOKENS), adapted)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), base.parameters(), strict=True))
    with pytest.raises(AdapterError, match="no adapter is merged"):
        unmerge(model)


def test_a_merged_model_can_drop_its_wrappers(model: Decoder) -> None:
    names = set(model.state_dict())
    add_lora(model, LoRAConfig(4, 8.0))
    shake(model)
    adapted = model(TOKENS)
    merge(model)
    unload(model)

    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(TOKENS), adapted, rtol=1e-5, atol=1e-5)


def test_adding_twice_changes_nothing_and_another_configuration_is_refused(model: Decoder) -> None:
    config = LoRAConfig(4, 8.0)
    first = add_lora(model, config)
    shake(model)
    adapted = model(TOKENS)

    assert add_lora(model, config) == first
    assert torch.equal(model(TOKENS), adapted)
    assert len(lora_layers(model)) == 2 * 7
    with pytest.raises(AdapterError, match="'default' of another configuration; choose another name"):
        add_lora(model, LoRAConfig(8, 8.0))


def test_adapters_on_one_base_do_not_leak_into_each_other(model: Decoder) -> None:
    base = model(TOKENS)
    alone = {}
    for name, config in (("a", LoRAConfig(2, 4.0, ATTENTION)), ("b", LoRAConfig(3, 9.0, ("down_proj", "v_proj")))):
        one = copy.deepcopy(model)
        for adapted in (one, model):
            add_lora(adapted, config, name, seed=7)
            shake(adapted, name)
        alone[name] = one(TOKENS)

    assert set(adapters(model)) == {"a", "b"}
    for name in ("a", "b", "a"):
        use_adapter(model, name)
        assert torch.equal(model(TOKENS), alone[name])
        trained = [p for p in model.parameters() if p.requires_grad]
        assert {id(p) for p in trained} == {id(p) for p in adapter_parameters(model, name)}
        with base_only(model):
            assert torch.equal(model(TOKENS), base)
        assert torch.equal(model(TOKENS), alone[name])
    use_adapter(model, None)
    assert torch.equal(model(TOKENS), base)
    with pytest.raises(AdapterError, match="no adapter 'c'; there are a, b"):
        use_adapter(model, "c")


def test_the_reference_inside_a_step_takes_no_gradient(model: Decoder) -> None:
    """DPO's order: policy, reference, backward. The adapter's graph must survive its being off."""
    add_lora(model, LoRAConfig(2, 4.0))
    policy = model(TOKENS)
    with base_only(model), torch.no_grad():
        reference = model(TOKENS)
    (policy - reference + 1).square().mean().backward()

    assert all(parameter.grad is not None for parameter in adapter_parameters(model))


def test_tied_weights_stay_tied_and_are_not_merged(model: Decoder) -> None:
    add_lora(model, LoRAConfig(4, 8.0, ("lm_head",)))
    shake(model)

    assert isinstance(model.lm_head, LoRALinear)
    assert model.lm_head.base.weight is model.embed_tokens.weight
    with pytest.raises(AdapterError, match=r"embed_tokens and lm_head\.base share a weight"):
        merge(model)
    assert "lm_head" not in find_targets(model, "all-linear", (nn.Linear,))


def test_a_layer_that_stands_at_two_paths_gets_one_adapter() -> None:
    layer = nn.Linear(8, 8)
    model = nn.ModuleDict({"first": layer, "second": layer, "other": nn.Linear(8, 8)})

    assert add_lora(model, LoRAConfig(2, 2.0)) == 2 * 2 * 16
    assert model["first"] is model["second"]
    shake(model)
    merge(model)
    unload(model)
    assert model["first"] is model["second"] is layer


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (("nope",), "'nope' names no linear layer; this model's are down_proj, gate_proj"),
        (("q_proj", "proj"), "'proj' names no linear layer"),
        (("embed_tokens",), "'embed_tokens' names no linear layer"),
        (("mlp",), "'mlp' names no linear layer"),
    ],
)
def test_a_target_that_is_no_linear_layer_is_refused(model: Decoder, targets: tuple[str, ...], problem: str) -> None:
    with pytest.raises(AdapterError, match=problem):
        add_lora(model, LoRAConfig(4, 8.0, targets))
    assert all(parameter.requires_grad for parameter in model.parameters())  # the model is as it was


def test_a_configuration_that_cannot_be_is_refused(model: Decoder) -> None:
    for wrong in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}):
        with pytest.raises(AdapterError, match="out of range"):
            LoRAConfig(**wrong)
    for targets in ((), "q_proj"):
        with pytest.raises(AdapterError, match="neither 'all-linear' nor a tuple"):
            LoRAConfig(targets=targets)
    with pytest.raises(AdapterError, match="rank 17 exceeds a layer of 32 by 16"):
        add_lora(model, LoRAConfig(17, 8.0))
    assert not lora_layers(model)
    for name in ("", "a.b", "items"):
        with pytest.raises(AdapterError, match="cannot name an adapter"):
            add_lora(model, LoRAConfig(2, 8.0), name)
    with pytest.raises(AdapterError, match="the model is itself a linear layer"):
        add_lora(nn.Linear(4, 4), LoRAConfig(2, 2.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_adapter_of_a_half_precision_base_is_fp32(model: Decoder, dtype: Any) -> None:
    model = model.to(dtype)
    before = model(TOKENS)
    add_lora(model, LoRAConfig(4, 8.0))

    assert torch.equal(model(TOKENS), before)
    assert {parameter.dtype for parameter in adapter_parameters(model)} == {torch.float32}
    out = model(TOKENS)
    assert out.dtype == dtype
    out.float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in adapter_parameters(model))
    shake(model)
    adapted = model(TOKENS)
    merge(model)
    assert model.layers[0].self_attn.q_proj.weight.dtype == dtype
    assert gap(model(TOKENS), adapted) < 0.1 * gap(adapted, before)  # rounded to half precision, yet the update is in
    unmerge(model)
    assert torch.equal(model(TOKENS), adapted)


def test_autocast_works_with_fp32_factors(model: Decoder) -> None:
    add_lora(model, LoRAConfig(4, 8.0, dora=True))
    shake(model)
    expected = model(TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(TOKENS)
    out.float().square().mean().backward()

    assert gap(out, expected) < 0.1 * gap(expected, 0)
    assert all(parameter.grad is not None for parameter in adapter_parameters(model))


def test_dropout_is_of_the_adapter_and_of_training_alone(model: Decoder) -> None:
    add_lora(model, LoRAConfig(4, 8.0, dropout=0.5))
    base = model(TOKENS)
    shake(model)
    assert torch.equal(model.eval()(TOKENS), model(TOKENS))
    model.train()
    assert not torch.equal(model(TOKENS), model(TOKENS))
    with base_only(model):
        assert torch.equal(model(TOKENS), base)


def test_layers_whose_weight_is_read_past_forward_see_the_adapter() -> None:
    """torch's own encoder layer hands the weights to a fused kernel in evaluation."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True).eval()
    model, x = nn.Sequential(layer), torch.randn(2, 5, 16)
    base = model(x)
    add_lora(model, LoRAConfig(4, 8.0, ("linear1", "linear2", "out_proj")))
    shake(model)
    slow = model(x)  # with gradients: the Python path
    with torch.inference_mode():
        fused = model(x)

    assert gap(slow, base) > 0.1
    torch.testing.assert_close(fused, slow, rtol=1e-5, atol=1e-5)


def test_recomputed_layers_give_the_factors_the_same_gradients(model: Decoder) -> None:
    """With an embedding that is frozen, nothing that enters the first layer needs a gradient."""
    add_lora(model, LoRAConfig(4, 8.0))
    shake(model)
    gradients = []
    for recompute in (False, True):
        model.checkpointing = recompute
        model.zero_grad()
        model(TOKENS).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in adapter_parameters(model)])
    assert all(gap(a, b) < 1e-6 for a, b in zip(*gradients, strict=True))


def test_a_seed_gives_the_same_adapter(model: Decoder) -> None:
    other, third = copy.deepcopy(model), copy.deepcopy(model)
    for one, seed in ((model, 3), (other, 3), (third, 4)):
        torch.rand(3)
        add_lora(one, LoRAConfig(4, 8.0), seed=seed)
    same = zip(adapter_parameters(model), adapter_parameters(other), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(adapter_parameters(model)[0], adapter_parameters(third)[0])


@pytest.fixture
def saved(model: Decoder, tmp_path: Path) -> Path:
    adapted = copy.deepcopy(model)
    add_lora(adapted, LoRAConfig(4, 8.0, ATTENTION))
    shake(adapted)
    save_adapter(adapted, tmp_path / "adapter", base="ours")
    return tmp_path / "adapter"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", [ATTENTION, "all-linear", ("layers.1.mlp.up_proj", "lm_head")])
def test_a_saved_adapter_on_a_fresh_base_is_the_trained_model(
    model: Decoder, tmp_path: Path, kind: dict[str, bool], targets: Any
) -> None:
    fresh = copy.deepcopy(model)
    config = LoRAConfig(4, 8.0, targets, **kind)
    add_lora(model, config)
    shake(model)
    save_adapter(model, tmp_path)

    assert load_adapter(fresh, tmp_path, "again").rank == 4
    assert torch.equal(fresh(TOKENS), model(TOKENS))
    assert sum(file.stat().st_size for file in tmp_path.glob("adapter_*")) < 20_000 + 4 * config.rank * 6_000


def test_saving_what_is_not_there_is_refused(model: Decoder, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no adapter 'default'; there are none"):
        save_adapter(model, tmp_path)


def test_an_adapter_of_another_base_is_refused_by_name(model: Decoder, saved: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json: trained on 'ours', not on 'theirs'"):
        load_adapter(model, saved, base="theirs")
    load_adapter(model, saved, base="ours")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"r": 8}, r"adapter_model\.safetensors: .*lora_A\.weight is \[4, 32\] and not \[8, 32\]"),
        ({"target_modules": ["q_proj"]}, r"has .*v_proj\.lora_A\.weight, which the model or the config does not"),
        ({"target_modules": ["q_proj", "k_proj", "v_proj"]}, r"lacks .*k_proj\.lora_A\.weight"),
        ({"target_modules": ["c_attn"]}, r"adapter_config\.json: does not fit this model: .*'c_attn' names no linear"),
        ({"use_dora": True}, "lacks .*lora_magnitude_vector"),
        ({"bias": "all"}, "uses another method or a bias"),
        ({"peft_type": "IA3"}, "uses another method or a bias"),
        ({"modules_to_save": ["lm_head"]}, "uses modules_to_save, which this loader lacks"),
        ({"rank_pattern": {"q_proj": 2}}, "uses rank_pattern"),
        ({"lora_alpha": None}, "not the configuration of a LoRA adapter"),
        ({"r": 0}, "rank 0, alpha"),
        ({"target_modules": "(q|v)_proj"}, "neither 'all-linear' nor a tuple"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    model: Decoder, saved: Path, fields: dict[str, Any], problem: str
) -> None:
    path = saved / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    before = copy.deepcopy(model)

    with pytest.raises(AdapterError, match=problem) as caught:
        load_adapter(model, saved)
    assert str(caught.value).startswith(str(saved))
    assert "\n" not in str(caught.value)
    assert not lora_layers(model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_a_broken_file_is_refused_in_one_line_that_names_it(model: Decoder, saved: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights, config = saved / "adapter_model.safetensors", saved / "adapter_config.json"
    whole, settings = weights.read_bytes(), config.read_bytes()

    for content in (whole[: len(whole) // 2], b"", b"\xff" * 64, whole[:4]):
        weights.write_bytes(content)
        with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: not a whole safetensors file"):
            load_adapter(model, saved)
    weights.unlink()
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: not a whole"):
        load_adapter(model, saved)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    tensors[min(tensors)][0, 0] = float("nan")
    save_file(tensors, weights)
    with pytest.raises(AdapterError, match="numbers that are not finite"):
        load_adapter(model, saved)
    weights.write_bytes(whole)
    for content in (settings[:40], b"[]", b""):
        config.write_bytes(content)
        with pytest.raises(AdapterError, match=r"adapter_config\.json: not the configuration of a LoRA adapter"):
            load_adapter(model, saved)
    config.unlink()
    with pytest.raises(AdapterError, match="not the configuration"):
        load_adapter(model, saved)
    assert not lora_layers(model)


def test_a_saved_adapter_that_was_trained_unfrozen_would_not_be_the_model(model: Decoder, tmp_path: Path) -> None:
    """The mistake itself: with the norms left trainable, the file lacks a part of what was trained."""
    fresh = copy.deepcopy(model)
    add_lora(model, LoRAConfig(4, 8.0))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        model(TOKENS).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    save_adapter(model, tmp_path)
    load_adapter(fresh, tmp_path)

    assert gap(fresh(TOKENS), model(TOKENS)) > 0.1
