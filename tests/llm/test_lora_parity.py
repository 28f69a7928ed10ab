"""The same adapter in peft: same outputs from each other's files, same gradients, same merged weights, same training.

The factors are drawn at random, not left at B = 0, where every scale and every bug looks alike.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("transformers")

from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.train.loss import next_token_loss  # noqa: E402
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora, lora_layers  # noqa: E402
from llmquiz.llm.tune.merging import merge  # noqa: E402# noqa: E402
from llmquiz.llm.tune.saving import load_adapter, save_adapter  # noqa: E402

THEIRS = pytest.mark.filterwarnings("ignore::FutureWarning")  # within peft and transformers
pytestmark = [pytest.mark.labs, pytest.mark.slow, THEIRS]

SHAPE = ModelConfig(96, 32, 2, 4, 2, 8, 48)
TOKENS = torch.randint(0, 96, (2, 11), generator=torch.Generator().manual_seed(1))
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}  # fp32
KINDS = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "both": {"rslora": True, "dora": True},
}
TARGETS = {"attention": ("q_proj", "v_proj"), "all": "all-linear", "head": ("lm_head", "layers.1.mlp.down_proj")}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, bool]:
    return KINDS[request.param]


@pytest.fixture(params=TARGETS)
def config(request: pytest.FixtureRequest, kind: dict[str, bool]) -> LoRAConfig:
    return LoRAConfig(4, 12.0, TARGETS[request.param], **kind)


def decoder() -> Decoder:
    return random_decoder(SHAPE, seed=0)


def twin(**settings: Any) -> Any:
    """The same model in transformers; wrapped by peft with `settings`, if there are any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's imports
        import peft

        from llmquiz.llm.model.reference import to_transformers

        model = to_transformers(decoder())
        return peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings)) if settings else model


def in_peft(config: LoRAConfig) -> Any:
    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    return twin(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=targets,
        use_rslora=config.rslora,
        use_dora=config.dora,
        lora_dropout=config.dropout,
    )


def shake(parameters: list[Any]) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def trainable(model: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_our_file_is_read_by_peft_and_gives_the_same_outputs(config: LoRAConfig, tmp_path: Path) -> None:
    import peft

    ours = decoder()
    count = add_lora(ours, config)
    shake(adapter_parameters(ours))
    save_adapter(ours, tmp_path, base="ours")
    theirs = peft.PeftModel.from_pretrained(twin(), tmp_path, is_trainable=True).eval()

    assert sum(parameter.numel() for parameter in trainable(theirs).values()) == count
    torch.testing.assert_close(theirs(TOKENS).logits, ours(TOKENS), **TOLERANCE)
    merge(ours)
    torch.testing.assert_close(theirs.merge_and_unload()(TOKENS).logits, ours(TOKENS), **TOLERANCE)


def test_a_file_of_peft_is_read_by_us_and_gives_the_same_outputs(config: LoRAConfig, tmp_path: Path) -> None:
    theirs = in_peft(config).eval()
    shake(list(trainable(theirs).values()))
    theirs.save_pretrained(tmp_path, save_embedding_layers=False)  # which would add the base's own head to the file
    ours = decoder()
    read = load_adapter(ours, tmp_path)

    assert (read.rank, read.alpha, read.rslora, read.dora) == (4, 12.0, config.rslora, config.dora)
    assert len(lora_layers(ours)) == sum(name.endswith("lora_A.default.weight") for name in trainable(theirs))
    torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits, **TOLERANCE)


def test_the_gradients_are_those_of_peft(kind: dict[str, bool], tmp_path: Path) -> None:
    """Of DoRA too, where the length of the rows counts as a constant."""
    import peft

    ours = decoder()
    add_lora(ours, LoRAConfig(4, 12.0, **kind))
    shake(adapter_parameters(ours))
    save_adapter(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(twin(), tmp_path, is_trainable=True).eval()
    labels = TOKENS.roll(-1, 1)
    for logits in (ours(TOKENS), theirs(TOKENS).logits):
        nll, tokens = next_token_loss(logits, labels)
        (nll / tokens).backward()

    found = trainable(theirs)
    for path, layer in ((path, layer) for path, layer in ours.named_modules() if layer in lora_layers(ours)):
        update, prefix = layer.updates()["default"], f"base_model.model.model.{path}"
        torch.testing.assert_close(update.A.grad, found[f"{prefix}.lora_A.default.weight"].grad, **TOLERANCE)
        torch.testing.assert_close(update.B.grad, found[f"{prefix}.lora_B.default.weight"].grad, **TOLERANCE)
        if kind.get("dora"):
            magnitude = found[f"{prefix}.lora_magnitude_vector.default.weight"]
            torch.testing.assert_close(update.magnitude.grad, magnitude.grad, **TOLERANCE)


def test_training_goes_the_same_way(kind: dict[str, bool], tmp_path: Path) -> None:
    """Twenty steps of AdamW from the same factors: the losses stay within 1e-4."""
    import peft

    ours = decoder()
    add_lora(ours, LoRAConfig(4, 12.0, **kind))
    save_adapter(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(twin(), tmp_path, is_trainable=True)
    labels = TOKENS.roll(-1, 1)
    losses: list[list[float]] = []
    for forward, parameters in (
        (ours, adapter_parameters(ours)),
        (lambda tokens: theirs(tokens).logits, list(trainable(theirs).values())),
    ):
        optimizer = torch.optim.AdamW(parameters, lr=3e-3)
        losses.append([])
        for _ in range(20):
            nll, tokens = next_token_loss(forward(TOKENS), labels)
            optimizer.zero_grad()
            (nll / tokens).backward()
            optimizer.step()
            losses[-1].append(float(nll.detach() / tokens))

    assert losses[0][-1] < losses[0][0] - 0.3
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-4
