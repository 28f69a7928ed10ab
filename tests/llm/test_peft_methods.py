"""(IA)^3, prefix tuning, prompt tuning and bottleneck adapters: where they start, what they train, what peft says."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.errors import AdapterError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.tune.bottleneck import add_bottlenecks  # noqa: E402
from llmquiz.llm.tune.ia3 import IA3Linear, add_ia3, merge_ia3  # noqa: E402
from llmquiz.llm.tune.prefix import PrefixTuning  # noqa: E402
from llmquiz.llm.tune.prompt import PromptTuning  # noqa: E402

pytestmark = pytest.mark.labs

L, HIDDEN, KV, D, FF = 2, 64, 2, 16, 96
CONFIG = ModelConfig(64, HIDDEN, L, 4, KV, D, FF, max_position=64)
TEXT = torch.tensor([5, 9, 2])
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def base() -> Decoder:
    return random_decoder(CONFIG, seed=0)


def tokens() -> Any:
    return torch.randint(64, (2, 7), generator=torch.Generator().manual_seed(1))


def ia3(model: Decoder) -> Any:
    add_ia3(model)
    return model


def bottlenecks(model: Decoder) -> Any:
    add_bottlenecks(model, 8)
    return model


METHODS: dict[str, tuple[Callable[[Decoder], Any], int]] = {
    "ia3": (ia3, L * (2 * KV * D + FF)),
    "prefix": (lambda model: PrefixTuning(model, TEXT), 2 * L * KV * len(TEXT) * D),
    "prompt": (lambda model: PromptTuning(model, TEXT), len(TEXT) * HIDDEN),
    "bottleneck": (bottlenecks, 2 * L * (2 * 8 * HIDDEN + 8 + HIDDEN)),
}


@pytest.mark.parametrize("method", METHODS)
def test_only_the_adapter_is_trained_and_its_size_is_the_formulas(base: Decoder, method: str) -> None:
    make, size = METHODS[method]
    frozen = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    adapted = make(base)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1)
    for _ in range(2):  # the first step of an adapter that starts at zero moves one side alone
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(adapted(tokens()).flatten(0, 1), tokens().flatten()).backward()
        optimizer.step()

    assert sum(p.numel() for p in trained.values()) == size
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
    assert all(p.grad is None for name, p in adapted.named_parameters() if name not in trained)
    kept = [tensor for name, tensor in adapted.state_dict().items() if name not in trained]
    assert {t.sum().item() for t in kept} == {t.sum().item() for t in frozen.values()}


@pytest.mark.parametrize("method", ["ia3", "bottleneck"])
def test_an_adapter_starts_as_the_base_model(base: Decoder, method: str) -> None:
    expected = base(tokens())

    assert torch.equal(METHODS[method][0](base)(tokens()), expected)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_a_virtual_text_starts_as_the_model_that_reads_that_text_first(base: Decoder, method: str) -> None:
    read = torch.cat((TEXT.expand(2, -1), tokens()), dim=1)
    expected = base(read)[:, len(TEXT) :]
    adapted = METHODS[method][0](base)

    torch.testing.assert_close(adapted(tokens()), expected, **TOLERANCE)
    torch.testing.assert_close(adapted(tokens()[:, :3]), expected[:, :3], **TOLERANCE)


def test_a_prefix_generates_like_any_cache(base: Decoder) -> None:
    prefix = PrefixTuning(base, TEXT)
    expected = generate(base, torch.cat((TEXT[None], tokens()[:1]), dim=1), 6, cache=GrowingCache(CONFIG)).tokens
    cache, new, made = prefix.cache(1), tokens()[:1], []
    for _ in range(6):
        new = base(new, cache, last_only=True)[:, -1].argmax(-1, keepdim=True)
        made.append(new)

    assert torch.equal(torch.cat(made, dim=1), expected)
    assert cache.length == len(TEXT) + 7 + 5


def test_a_prefix_refuses_recomputed_layers(base: Decoder) -> None:
    prefix = PrefixTuning(base, TEXT)
    base.checkpointing = True

    with pytest.raises(AdapterError, match="does not go with activation checkpointing"):
        prefix(tokens())
    with torch.no_grad():
        assert prefix(tokens()).shape == (2, 7, 64)


@pytest.mark.parametrize("bias", [False, True])
def test_merged_ia3_is_a_plain_model_with_the_same_logits(bias: bool) -> None:
    config = ModelConfig(64, HIDDEN, L, 4, KV, D, FF, qkv_bias=bias, mlp_bias=bias)
    model = random_decoder(config, seed=2)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    add_ia3(model)
    for module in model.modules():
        if isinstance(module, IA3Linear):
            torch.nn.init.normal_(module.scale, mean=1.0, std=0.5)
    expected = model(tokens())
    merge_ia3(model)

    torch.testing.assert_close(model(tokens()), expected, **TOLERANCE)
    assert set(model.state_dict()) == set(random_decoder(config, seed=2).state_dict())


def test_adapting_twice_is_harmless_or_refused(base: Decoder) -> None:
    once = add_ia3(base)
    assert add_ia3(base) == once == METHODS["ia3"][1]

    other = random_decoder(CONFIG, seed=1)
    add_bottlenecks(other, 4)
    with pytest.raises(AdapterError, match="adapters already"):
        add_bottlenecks(other, 4)


def test_what_cannot_work_is_refused(base: Decoder) -> None:
    with pytest.raises(AdapterError, match="no linear layer named query, wo"):
        add_ia3(base, outputs=["query"], inputs=["wo"])
    with pytest.raises(AdapterError, match="width of 0"):
        add_bottlenecks(base, 0)
    for method in (PrefixTuning, PromptTuning):
        with pytest.raises(AdapterError, match="is empty"):
            method(base, TEXT[:0])


@pytest.fixture(scope="module")
def peft() -> Any:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        return pytest.importorskip("peft")


def witness(peft: Any, base: Decoder, config: Any) -> Any:
    from llmquiz.llm.model.reference import to_transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(to_transformers(base), config).eval()


@pytest.mark.slow
def test_ia3_is_pefts(peft: Any, base: Decoder) -> None:
    theirs = witness(peft, base, peft.IA3Config(task_type="CAUSAL_LM"))
    scales = [parameter for name, parameter in theirs.named_parameters() if "ia3_l" in name]
    size = add_ia3(base)
    ours = [module.scale for module in base.modules() if isinstance(module, IA3Linear)]
    for mine, other in zip(ours, scales, strict=True):
        torch.nn.init.normal_(other, mean=1.0, std=0.5)
        mine.data.copy_(other.data.flatten())

    assert size == theirs.get_nb_trainable_parameters()[0]
    torch.testing.assert_close(base(tokens()), theirs(tokens()).logits, **TOLERANCE)


@pytest.mark.slow
def test_prefix_tuning_is_pefts(peft: Any, base: Decoder) -> None:
    theirs = witness(peft, base, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    ours = PrefixTuning(base, TEXT)
    torch.nn.init.normal_(ours.keys)
    torch.nn.init.normal_(ours.values)
    pairs = torch.stack((ours.keys, ours.values), dim=1)  # [L, 2, H_kv, P, D]
    flat = pairs.permute(3, 0, 1, 2, 4).flatten(1)  # [P, L * 2 * H_kv * D]
    theirs.prompt_encoder.default.embedding.weight.data.copy_(flat.detach())

    assert ours.keys.numel() + ours.values.numel() == theirs.get_nb_trainable_parameters()[0]
    torch.testing.assert_close(ours(tokens()), theirs(tokens()).logits, **TOLERANCE)


@pytest.mark.slow
def test_prompt_tuning_is_pefts(peft: Any, base: Decoder) -> None:
    theirs = witness(peft, base, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    ours = PromptTuning(copy.deepcopy(base), TEXT)
    torch.nn.init.normal_(ours.prompt)
    theirs.prompt_encoder.default.embedding.weight.data.copy_(ours.prompt.data)

    assert ours.prompt.numel() == theirs.get_nb_trainable_parameters()[0]
    torch.testing.assert_close(ours(tokens()), theirs(tokens()).logits[:, 3:], **TOLERANCE)
