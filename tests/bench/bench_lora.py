"""A training step of the from-scratch LoRA on the base model, beside peft inside transformers' Trainer; medians.

Both start from the same weights and the same adapter and see the same batch; after each step of theirs comes one of
ours, so that a busy moment hits both. The time is CPU time of the one thread, which a busy machine does not stretch.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from llmquiz.llm.base.load import base_model
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.trainer import Trainer
from llmquiz.llm.tune import reference
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora
from llmquiz.llm.tune.saving import save_adapter

ROWS, TOKENS, RANK, LR = 8, 64, 8, 1e-3
COMPARED, WARMUP = 20, 3


def main(steps: int = 30) -> None:
    """Print the medians, their ratio, and how far the losses lie apart."""
    torch.set_num_threads(1)
    language = base_model()
    text = language.tokenizer.encode("The cat sat by the door and looked at the rain. " * 60)[: ROWS * TOKENS]
    rows = torch.tensor(text).view(ROWS, TOKENS)
    ours = language.model
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers and peft
        folder = Path(name)
        theirs = in_peft(ours, folder)
        stepper = Trainer(ours.train(), fused_adamw(adapter_parameters(ours), lr=LR))
        batch = [(rows[:, :-1], rows[:, 1:])]
        race = run_trainer(theirs, rows, steps, folder, lambda: stepper.step(batch).loss)
    medians = {name: statistics.median(seconds[WARMUP:]) for name, (seconds, _) in race.items()}
    gap = max(abs(a - b) for a, b in zip(*(losses[:COMPARED] for _, losses in race.values()), strict=True))
    for name, (_, losses) in race.items():
        print(f"{name:24} {1e3 * medians[name]:6.1f} ms a step   loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    theirs_over_ours = medians["peft in Trainer"] / medians["ours"]
    print(f"ours is {theirs_over_ours:.2f} x as fast; losses within {gap:.1e} over {COMPARED} steps")


def in_peft(model: Any, folder: Path) -> Any:
    """Adapt `model` and give its twin in peft, with the same factors."""
    from copy import deepcopy

    plain = deepcopy(model)
    add_lora(model, LoRAConfig(RANK, 2.0 * RANK))
    save_adapter(model, folder)
    return reference.load_in_peft(plain.train(), folder)


def run_trainer(
    model: Any, rows: Any, steps: int, folder: Path, ours: Any
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds and losses of each; `ours` takes one step and gives its loss."""
    import transformers

    race: dict[str, tuple[list[float], list[float]]] = {"ours": ([], []), "peft in Trainer": ([], [])}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            race["peft in Trainer"][1].append(float(loss))
            return loss

    class Turns(transformers.TrainerCallback):
        since = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.since = time.thread_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            start = time.thread_time()
            race["peft in Trainer"][0].append(start - self.since)
            race["ours"][1].append(ours())
            self.since = time.thread_time()
            race["ours"][0].append(self.since - start)

    settings = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=ROWS,
        learning_rate=LR,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    data = [{"input_ids": row, "labels": row} for _ in range(steps) for row in rows]
    InOrder(model=model, args=settings, train_dataset=data, callbacks=[Turns()]).train()
    return race


if __name__ == "__main__":
    main()
