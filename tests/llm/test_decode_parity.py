"""Token for token what transformers' `generate` says, on three architectures; and processor by processor.

Greedy decoding of random weights repeats itself and proves little; so weights are scaled until logits are spread, and
the drawn tests walk over many different tokens. The generator is torch's global one there, and one with its seed here.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.base.load import FOLDER, base_model  # noqa: E402
from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.decode.sampling import Sampler, SamplingParams  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.gpt2 import GPT2, GPT2Config, build_gpt2  # noqa: E402
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora  # noqa: E402
from llmquiz.llm.tune.merging import merge  # noqa: E402

pytestmark = [pytest.mark.labs, pytest.mark.slow]

VOCAB, WIDTH, LAYERS, HEADS, POSITIONS = 128, 64, 2, 4, 96
PROMPT, NEW = 8, 32
FAMILIES = ("Llama", "Qwen3", "GPT2")
CHAINS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 1.7},
    "top-k": {"top_k": 12},
    "top-p": {"top_p": 0.8},
    "min-p": {"min_p": 0.1},
    "typical": {"typical_p": 0.7},
    "repetition": {"repetition_penalty": 1.4},
    "all": {
        "temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8, "repetition_penalty": 1.2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers")


@pytest.fixture(scope="module", params=FAMILIES)
def twins(request: pytest.FixtureRequest, transformers: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    if request.param == "GPT2":
        theirs = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=VOCAB, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS)
        )
    else:
        config = getattr(transformers, f"{request.param}Config")(
            vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            num_key_value_heads=2, intermediate_size=96, max_position_embeddings=POSITIONS,
        )  # fmt: skip
        theirs = getattr(transformers, f"{request.param}ForCausalLM")(config)
    theirs.generation_config.eos_token_id = None  # Llama's default is token 2
    for name, parameter in theirs.eval().named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 and "bias" not in name else 0.0, 0.25)
    if request.param == "GPT2":
        return theirs, build_gpt2(GPT2Config.from_transformers(theirs.config), theirs.state_dict())
    from llmquiz.llm.model.reference import from_transformers

    return theirs, from_transformers(theirs)


def padded_prompts() -> tuple[Any, Any]:
    tokens = torch.randint(1, VOCAB, (3, PROMPT), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(PROMPT) >= torch.tensor([[0], [3], [6]])
    return tokens * mask, mask


def theirs_say(transformers: Any, model: Any, tokens: Any, mask: Any, **settings: Any) -> Any:
    config = transformers.GenerationConfig(
        max_new_tokens=NEW, pad_token_id=0, top_k=settings.pop("top_k", 0), **settings
    )
    torch.manual_seed(5)
    made = model.generate(tokens, attention_mask=mask.long(), generation_config=config)
    return made[:, PROMPT:]


def ours_say(model: Any, tokens: Any, mask: Any, *, eos: list[int] | None = None, **settings: Any) -> Any:
    params = SamplingParams(**settings)
    chain = params.processors(prompt_length=PROMPT, padding=(~mask).sum(dim=1))
    sample = None if params.greedy else Sampler([torch.Generator().manual_seed(5)])
    cache = GrowingCache(model.config)
    return generate(model, tokens, NEW, cache=cache, mask=mask, eos=eos or (), processors=chain, sample=sample).tokens


def test_greedy_says_the_same(transformers: Any, twins: tuple[Any, Any]) -> None:
    theirs, ours = twins
    tokens, mask = padded_prompts()
    expected = theirs_say(transformers, theirs, tokens, mask, do_sample=False)
    penalised = theirs_say(transformers, theirs, tokens, mask, do_sample=False, repetition_penalty=1.3)

    assert torch.equal(ours_say(ours, tokens, mask, temperature=0), expected)
    assert torch.equal(ours_say(ours, tokens, mask, temperature=0, repetition_penalty=1.3), penalised)
    assert len(set(penalised[0].tolist())) > NEW / 2
    assert not torch.equal(expected, penalised)


@pytest.mark.parametrize("name", CHAINS)
def test_drawn_with_one_generator_they_say_the_same(transformers: Any, twins: tuple[Any, Any], name: str) -> None:
    theirs, ours = twins
    tokens, mask = padded_prompts()
    expected = theirs_say(transformers, theirs, tokens, mask, do_sample=True, **CHAINS[name])

    assert torch.equal(ours_say(ours, tokens, mask, **CHAINS[name]), expected)
    assert len(expected.unique()) > 10


def test_drawn_sequences_end_at_the_same_token(transformers: Any, twins: tuple[Any, Any]) -> None:
    theirs, ours = twins
    tokens, mask = padded_prompts()
    eos = list(range(100, 110))
    expected = theirs_say(transformers, theirs, tokens, mask, do_sample=True, temperature=2.0, eos_token_id=eos)
    made = ours_say(ours, tokens, mask, temperature=2.0, eos=eos)

    assert made.shape == expected.shape
    for row, other in zip(made.tolist(), expected.tolist(), strict=True):
        end = next((i + 1 for i, token in enumerate(row) if token in eos), NEW)
        assert row[:end] == other[:end]
        assert set(row[end:]) <= {row[end - 1]}


@pytest.mark.parametrize("name", CHAINS)
def test_every_processor_is_theirs(transformers: Any, name: str) -> None:
    from transformers.generation import logits_process as peer

    generator = torch.Generator().manual_seed(0)
    said = torch.randint(0, VOCAB, (6, 20), generator=generator)
    logits = 4 * torch.randn(6, VOCAB, generator=generator)
    makers = {
        "repetition_penalty": peer.RepetitionPenaltyLogitsProcessor,
        "temperature": peer.TemperatureLogitsWarper,
        "top_k": peer.TopKLogitsWarper,
        "top_p": peer.TopPLogitsWarper,
        "min_p": peer.MinPLogitsWarper,
        "typical_p": peer.TypicalLogitsWarper,
    }
    ours = theirs = logits
    for process in SamplingParams(**CHAINS[name]).processors():
        ours = process(said, ours)
    for key, make in makers.items():
        if key in CHAINS[name]:
            theirs = make(CHAINS[name][key])(said, theirs)

    assert torch.equal(ours.isfinite(), theirs.isfinite())
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert not torch.equal(ours, logits)


@pytest.fixture(scope="module")
def gpt2(transformers: Any) -> tuple[Any, GPT2]:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS, n_inner=96
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "ln_" in name and "weight" in name else 0.0, 0.25)
    return theirs, build_gpt2(GPT2Config.from_transformers(config), theirs.state_dict())


def test_gpt2_gives_the_logits_of_transformers(gpt2: tuple[Any, GPT2]) -> None:
    theirs, ours = gpt2
    tokens, cache = torch.randint(0, VOCAB, (2, 20)), GrowingCache(ours.config)
    with torch.inference_mode():
        expected = theirs(tokens).logits
        torch.testing.assert_close(ours(tokens), expected, rtol=1e-5, atol=1e-4)
        steps = [ours(part, cache) for part in tokens.split([5, 1, 14], dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-5, atol=1e-4)
        with pytest.raises(ModelError, match=r"20 \+ 77 tokens exceed the model's 96 positions"):
            ours(tokens[:, :1].expand(-1, 77), cache)
    assert ours.lm_head.weight is ours.embed_tokens.weight
    assert ours.config.num_parameters() == sum(p.numel() for p in ours.parameters())
    assert cache.bytes() == ours.config.cache_bytes(20, batch=2)


def test_gpt2_takes_an_adapter(gpt2: tuple[Any, GPT2]) -> None:
    config = GPT2Config.from_transformers(gpt2[0].config)
    model, tokens = build_gpt2(config, gpt2[0].state_dict()), torch.arange(12)[None]
    before = model(tokens).detach()
    add_lora(model, LoRAConfig(rank=4, alpha=8, targets=("q_proj", "v_proj", "up_proj")))
    assert torch.equal(model(tokens), before)
    optimizer = torch.optim.SGD(adapter_parameters(model), lr=0.5)
    for _ in range(2):  # the first step moves B alone
        torch.nn.functional.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned = model(tokens).detach()

    assert (tuned - before).abs().max() > 1e-3
    merge(model)
    torch.testing.assert_close(model(tokens), tuned, rtol=1e-4, atol=1e-4)


def test_a_gpt2_folder_runs_in_our_own_code(gpt2: tuple[Any, GPT2], tmp_path: Path) -> None:
    theirs, ours = gpt2
    theirs.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())
    loaded, tokens = base_model(str(tmp_path)).model, torch.arange(9)[None]

    assert isinstance(loaded, GPT2)
    assert torch.equal(loaded(tokens), ours(tokens))


def test_old_names_are_read_and_wrong_shapes_are_not(gpt2: tuple[Any, GPT2]) -> None:
    theirs, ours = gpt2
    old = {name.removeprefix("transformer."): tensor for name, tensor in theirs.state_dict().items()}
    del old["lm_head.weight"]
    old["h.0.attn.bias"], old["h.0.attn.masked_bias"] = torch.ones(1, 1, 8, 8), torch.tensor(-1e4)
    tokens = torch.arange(9)[None]

    assert torch.equal(build_gpt2(ours.config, old)(tokens), ours(tokens))
    with pytest.raises(ModelError, match="weights do not fit the config"):
        build_gpt2(ours.config, {**old, "h.0.mlp.c_fc.weight": torch.zeros(96, WIDTH)})
    with pytest.raises(ModelError, match="weights do not fit the config"):
        build_gpt2(ours.config, {**old, "score.weight": torch.zeros(2, WIDTH)})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model_type": "llama"}, "'llama' is not 'gpt2'"),
        ({"n_head": None}, "n_head is missing"),
        ({"activation_function": "relu"}, "'relu' is not 'gelu_new'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "not scaled by sqrt"),
    ],
)
def test_other_gpt2s_are_refused(change: dict[str, Any], problem: str) -> None:
    fields = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2, **change}
    with pytest.raises(ModelError, match=problem):
        GPT2Config.from_transformers({key: value for key, value in fields.items() if value is not None})
