"""Ways to tune a frozen model, on one task that the base model is bad at: texts back to front.

Every word of them is known to it, no order is. A method that adds new directions to the weights (LoRA, bottleneck
adapters) can learn that; one that scales the features there are, or shows the model something to attend to, mostly
steers what the base can do already. Each method sees the same batches as often as the others, at a rate that suits it:
the fewer its parameters, the higher.

Shapes: B rows, T tokens. L layers, H_kv K/V heads, D head_dim, P virtual tokens.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.train.loss import next_token_loss
from llmquiz.llm.tune.bottleneck import add_bottlenecks
from llmquiz.llm.tune.ia3 import add_ia3
from llmquiz.llm.tune.lora import LoRAConfig, add_lora
from llmquiz.llm.tune.prefix import PrefixTuning
from llmquiz.llm.tune.prompt import PromptTuning

BATCH, LENGTH, TEST_ROWS = 6, 32, 32
PEFT = True  # count with peft too, where it is installed
LORA, BOTTLENECK, IA3, PREFIX, PROMPT, FULL = "LoRA", "bottleneck", "(IA)3", "prefix", "prompt", "full"
ADDS, STEERS = (LORA, BOTTLENECK, IA3), (IA3, PREFIX, PROMPT)


@dataclass(frozen=True, slots=True)
class Method:
    """How to tune: what `make` returns is called with tokens [B, T] and trains what requires a gradient."""

    make: Callable[[Decoder], nn.Module]
    formula: int
    learning_rate: float
    peft: str = ""  # its configuration there, and what that takes
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a method cost and what came of it; bytes of optimizer state and file, losses in nats a token."""

    parameters: int
    state_bytes: int
    file_bytes: int
    first_loss: float
    loss: float


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    try:
        language = base_model(params.model, device=params.device)
        base = language.model
        if not isinstance(base, Decoder):
            raise LabError("prefix and prompt tuning are built for the Llama family here; choose such a --model")
        size = sum(parameter.numel() for parameter in base.parameters())
        check_fits(estimate(2 * size, trainable=size), params.device, what="full fine-tuning beside the base")
        text = Texts(language, params)
        methods = choose(base.config, text, params)
        report.metric("base_loss", text.test_loss(base))
        before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
        tuned = {name: tune(name, method, base, text, report) for name, method in methods.items()}
    except ModelError as error:
        raise LabError(str(error)) from error
    changed = sum(not torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    report.claim("base-is-untouched", measured=changed, expected=0)
    counted = count_with_peft(base, methods, report)
    report_counts(methods, tuned, counted, report)
    report_losses(tuned, text.test_loss(base), report)
    rows = []
    for name, it in tuned.items():
        rows.append((name, it.parameters, counted.get(name), it.state_bytes / 2**20, it.file_bytes / 2**20, it.loss))
    columns = ("method", "parameters", "in peft", "state MiB", "file MiB", f"loss after {params.steps}")
    report.table("the same batches for all", columns, rows)


def choose(config: ModelConfig, text: Texts, params: Params) -> dict[str, Method]:
    """The methods, each with the formula of its size."""
    L, hidden, inner = config.num_layers, config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    R, W, P = params.rank, params.width, params.virtual_tokens
    sides = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner)  # of q and o, k and v, and the MLP
    virtual = (("num_virtual_tokens", P),)
    low_rank = (("r", R), ("target_modules", "all-linear"))

    def adapted(add: Callable[[Decoder], object]) -> Callable[[Decoder], nn.Module]:
        def make(model: Decoder) -> nn.Module:
            add(model)
            return model

        return make

    lora = adapted(lambda model: add_lora(model, LoRAConfig(R, 2.0 * R)))
    bottleneck = adapted(lambda model: add_bottlenecks(model, W))
    full = adapted(lambda model: model.requires_grad_(True))
    return {
        LORA: Method(lora, L * R * sides, 1e-2, "LoraConfig", low_rank),
        BOTTLENECK: Method(bottleneck, 2 * L * (2 * W * hidden + W + hidden), 1e-2),
        IA3: Method(adapted(add_ia3), L * (2 * keys + inner), 1e-1, "IA3Config"),
        PREFIX: Method(
            lambda model: PrefixTuning(model, text.start), 2 * L * keys * P, 3e-1, "PrefixTuningConfig", virtual
        ),
        PROMPT: Method(lambda model: PromptTuning(model, text.start), P * hidden, 1e-1, "PromptTuningConfig", virtual),
        FULL: Method(full, config.num_parameters(), 3e-3),
    }


class Texts:
    """English texts of the corpus as the model's tokens, last token first.

    Attributes:
        train: [steps, B, T + 1]; the same for every method.
        test: [rows, T + 1], of other texts.
        start: [P] tokens that a prefix and a prompt start from.
    """

    def __init__(self, language: LanguageModel, params: Params) -> None:
        def backwards(seed: int, rows: int) -> Tensor:  # -> [rows, T + 1]
            tokens: list[int] = []
            for document in documents(seed, languages=("en",)):
                tokens += reversed(language.tokenizer.encode(document.text))
                if len(tokens) >= rows * (LENGTH + 1):
                    break
            return torch.tensor(tokens[: rows * (LENGTH + 1)], device=params.device).view(rows, LENGTH + 1)

        rows = backwards(2 * params.seed, params.steps * BATCH)
        self.train = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(params.seed))]
        self.train = self.train.view(params.steps, BATCH, LENGTH + 1)
        self.test = backwards(2 * params.seed + 1, TEST_ROWS)
        self.start = self.train.flatten()[: params.virtual_tokens]

    @torch.no_grad()
    def test_loss(self, model: nn.Module) -> float:
        return mean_loss(model, self.test).item()


def mean_loss(model: nn.Module, rows: Tensor) -> Tensor:  # [B, T + 1] -> nats a token
    total, count = next_token_loss(model(rows[:, :-1]), rows[:, 1:])
    return total / count


def tune(name: str, method: Method, base: Decoder, text: Texts, report: Report) -> Tuned:
    """Train a copy of the base."""
    model = method.make(copy.deepcopy(base))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), weight_decay=0.0)
    first_loss = text.test_loss(model)
    for step, rows in enumerate(report.progress(text.train, unit="step", label=name)):
        for group in optimizer.param_groups:
            group["lr"] = method.learning_rate * (1 - step / len(text.train))
        loss = mean_loss(model, rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        report.point("loss", x=step, y=loss.item(), series=name)
    moments = [tensor for state in optimizer.state.values() for key, tensor in state.items() if key != "step"]
    return Tuned(
        parameters=sum(parameter.numel() for parameter in trained.values()),
        state_bytes=sum(tensor.nbytes for tensor in moments),
        file_bytes=len(save({name: parameter.detach().contiguous() for name, parameter in trained.items()})),
        first_loss=first_loss,
        loss=text.test_loss(model),
    )


def count_with_peft(base: Decoder, methods: dict[str, Method], report: Report) -> dict[str, int]:
    """The trainable parameters of the same methods in peft on the same model in transformers."""
    from llmquiz.llm.model.reference import to_transformers
    from llmquiz.llm.tune import reference

    try:
        twin = to_transformers(base) if PEFT and reference.PEFT else None
    except ModelError:
        twin = None
    if twin is None:
        report.note("peft is not installed, or the model is no plain Llama: its counts were left out")
        return {}
    import peft

    counts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, method in methods.items():
            if method.peft:
                config = getattr(peft, method.peft)(task_type="CAUSAL_LM", **dict(method.settings))
                counts[name] = int(peft.get_peft_model(copy.deepcopy(twin), config).get_nb_trainable_parameters()[0])
    return counts


def report_counts(methods: dict[str, Method], tuned: dict[str, Tuned], counted: dict[str, int], report: Report) -> None:
    """Parameters, optimizer state and files, which depend on no machine."""
    names = {LORA: "lora", BOTTLENECK: "bottleneck", IA3: "ia3", PREFIX: "prefix", PROMPT: "prompt"}
    for name, key in names.items():
        report.metric(f"{key}_parameters", tuned[name].parameters)
    for name, it in tuned.items():
        report.claim("parameters", measured=it.parameters, expected=methods[name].formula)
        report.claim("optimizer-state", measured=it.state_bytes, expected=8 * it.parameters)
        report.claim("file", measured=it.file_bytes / (4 * it.parameters), expected=1.0, tolerance=0.2)
    for name, count in counted.items():
        report.claim("parameters", measured=tuned[name].parameters, expected=count)
    report.metric("lora_state_bytes", tuned[LORA].state_bytes)
    report.metric("full_state_bytes", tuned[FULL].state_bytes)


def report_losses(tuned: dict[str, Tuned], base_loss: float, report: Report) -> None:
    """How far each got."""
    for name in ADDS:
        report.claim("starts-as-the-base", measured=tuned[name].first_loss, expected=base_loss, tolerance=1e-5)
    light = min(tuned[name].loss for name in STEERS)
    report.metric("loss", tuned[LORA].loss)
    report.metric("full_loss", tuned[FULL].loss)
    report.metric("light_loss", light)
    report.claim("new-features-win", measured=light - tuned[LORA].loss, expected=0.0, relation="at least")
    report.claim("full-goes-furthest", measured=tuned[LORA].loss - tuned[FULL].loss, expected=0.0, relation="at least")
