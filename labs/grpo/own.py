"""The reader's own model learns sums, with adapters and the methods of the lab."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.align.rollout import Rollout
from llmquiz.llm.align.sums import Sums
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.tune.lora import LoRAConfig, add_lora

from .training import METHODS, SIZES, Lab, evaluate, first_step, train

LARGEST = {"tiny": 40, "small": 35, "base": 999}  # number in a sum, by size


@dataclass(frozen=True, slots=True)
class OwnLab(Lab):
    """The same with a model of the reader's own, whose adapters learn sums."""

    sums: Sums

    @property
    def longest(self) -> int:
        return self.sums.longest

    @property
    def end(self) -> int | None:
        return self.sums.end

    @property
    def evaluated(self) -> int:
        """As many as are trained on: what fits there fits here."""
        return self.size.prompts

    def label(self, method: str) -> str:
        return f"your model, {method}"

    def prompts(self, count: int) -> Tensor:  # [Q, P]
        return self.sums.draw(count, self.generator)

    def rewards(self, rollout: Rollout) -> Tensor:  # [Q, G]
        return self.sums.judge(rollout).view(-1, self.group)


def load_own(params: Params) -> OwnLab:
    """The reader's model, with adapters, if it can be trained here."""
    language = base_model(params.model, device=params.device)
    model, size = language.model, replace(SIZES[params.size], steps=SIZES[params.size].steps // 2)
    if not isinstance(model, Decoder):
        raise LabError("completions are sampled with our decoder's cache; use a model of the Llama family")
    trainable = add_lora(model, LoRAConfig())
    sums = Sums(language.tokenizer, LARGEST[params.size], seed=params.seed, device=params.device)
    tokens = size.prompts * params.group * (sums.prompts.size(1) + sums.longest)
    needed = estimate(trainable, trainable=trainable, config=model.config, tokens=2 * tokens)
    check_fits(needed, params.device, what="training adapters, and the logits of policy and reference,")
    generator, sampler = (torch.Generator(device).manual_seed(params.seed) for device in ("cpu", params.device))
    return OwnLab(model, size, params, generator, sampler, sums)


def report_own(lab: OwnLab, report: Report) -> None:
    """One method on the reader's model: nothing is claimed of a model that nobody here has seen."""
    method = METHODS[0] if lab.params.method == "all" else lab.params.method
    rollout = lab.groups(lab.reference, lab.size.prompts)
    loss, gradient = first_step(lab, method, rollout, lab.rewards(rollout))
    before = evaluate(lab, lab.reference)
    policy, spent = train(lab, method, report)
    rows = [
        ("before", *before.cells(), None, None),
        (method, *evaluate(lab, policy).cells(), spent.clipped, spent.rollouts),
    ]
    report.table("your model on sums", ("policy", *lab.columns), rows)
    kept, length = lab.sums.prompts.shape
    report.note(
        f"your model: {kept} sums of numbers up to {LARGEST[lab.params.size]}, of {length} tokens each; before the "
        f"first update the loss is {loss:.1e} and its gradient {gradient:.3g}; {spent.wasted_groups} groups were "
        "trained on whose rewards were all equal"
    )
