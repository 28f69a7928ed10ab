"""One training step, right under accumulation: the gradient of many micro-batches is that of the large batch.

What people get wrong is where to divide. `(loss / accumulation).backward()` on mean losses gives the mean of means:
beside an answer of 20 tokens, each token of one of 2 weighs ten times as much, and a micro-batch whose labels are all
masked gives 0 / 0. Here each micro-batch's loss is a sum; sums add up whatever their sizes; the gradient is divided
once, by all the tokens of the step, before it is clipped.

Nothing changes the weights until loss and gradient are known to be finite.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from llmquiz.llm.errors import TrainingError
from llmquiz.llm.train import distributed
from llmquiz.llm.train.checkpoint import read_checkpoint, write_checkpoint
from llmquiz.llm.train.device import autocast
from llmquiz.llm.train.loss import Loss, language_model_loss

_INITIAL_SCALE = 2.0**4  # the loss is a sum over thousands of tokens: as 2^16 would be for its mean


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did.

    Attributes:
        loss: nats per token over all micro-batches and ranks, before the update.
        grad_norm: L2 norm of the gradient before clipping; not finite where fp16 overflowed and the step was skipped.
        tokens: labels that were learned from.
        lr: learning rate of the first parameter group.
    """

    loss: float
    grad_norm: float
    tokens: int
    lr: float


class Trainer:
    """Steps of an optimizer over the trainable parameters of a model.

    Args:
        model: a model, or one that `distributed.wrap` made of it.
        optimizer: over the model's trainable parameters; made after wrapping.
        loss_fn: (model, micro-batch) -> sum of the loss, number of tokens.
        schedule: step -> learning rate of the first parameter group; others keep their ratio to it. None leaves the
            rates alone.
        max_grad_norm: the gradient is shortened to this norm; inf to leave it.
        precision: of the matrix products: fp32, bf16 or fp16, which adds loss scaling.
        generator: what draws the batches, if anything: it is saved and resumed with the rest, and so is the position
            in the data.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        loss_fn: Callable[[nn.Module, Any], Loss] = language_model_loss,
        schedule: Callable[[int], float] | None = None,
        max_grad_norm: float = 1.0,
        precision: str = "fp32",
        generator: torch.Generator | None = None,
    ) -> None:
        self.model, self.optimizer, self.loss_fn, self.schedule = model, optimizer, loss_fn, schedule
        self.max_grad_norm, self.precision, self.generator = max_grad_norm, precision, generator
        self.parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.device = self.parameters[0].device
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=_INITIAL_SCALE, enabled=precision == "fp16")
        first = optimizer.param_groups[0]["lr"]
        self.rate_ratios = [group["lr"] / first if first else 1.0 for group in optimizer.param_groups]
        self.steps = 0

    def step(self, micro_batches: Sequence[Any]) -> Step:
        """One update from all of `micro_batches`, as from one batch that holds them all.

        Raises:
            TrainingError: if the loss or the gradient is not finite, or no token has a label; weights, optimizer and
                step count are as before.
        """
        lr = self._set_rates()
        nll, tokens = self._backward(micro_batches)
        self._refuse_unless(tokens > 0, "no token has a label; mask less, or truncate prompts rather than answers")
        loss = nll / tokens
        self._refuse_unless(
            math.isfinite(loss),
            f"the loss is {loss}; lower the learning rate, warm up longer, or look at this batch",
        )
        grad_norm = self._finish_gradient(tokens)
        self._refuse_unless(
            math.isfinite(grad_norm) or self.scaler.is_enabled(),  # the scaler skips such a step, and scales less
            f"the gradient's norm is {grad_norm} at a loss of {loss:.3g}; lower the learning rate or use bf16 or fp32",
        )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return Step(loss, grad_norm, tokens, lr)

    def _backward(self, micro_batches: Sequence[Any]) -> tuple[float, int]:
        """Gradients of the summed loss into `.grad`; the sum and its tokens, over all ranks."""
        totals = torch.zeros(2, device=self.device)
        for number, batch in enumerate(micro_batches, start=1):
            with distributed.gradient_sync(self.model, number == len(micro_batches)):
                with autocast(self.device, self.precision):
                    nll, tokens = self.loss_fn(self.model, batch)
                torch.autograd.backward(self.scaler.scale(nll))
            totals += torch.stack((nll.detach(), tokens.float()))
        nll, tokens = distributed.sum_over_ranks(self.model, totals).tolist()  # waits for the device
        return nll, int(tokens)

    def _finish_gradient(self, tokens: int) -> float:
        """From sums, or their means over ranks, to the gradient per token, clipped; its norm before that."""
        self.scaler.unscale_(self.optimizer)
        gradients = [weight.grad for weight in self.parameters if weight.grad is not None]
        torch._foreach_mul_(gradients, distributed.num_ranks(self.model) / tokens)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        return float(distributed.whole(norm))

    def _set_rates(self) -> float:
        """Learning rates of this step into the optimizer; the first group's."""
        groups = self.optimizer.param_groups
        if self.schedule is not None:
            lr = self.schedule(self.steps)
            for group, ratio in zip(groups, self.rate_ratios, strict=True):
                group["lr"] = lr * ratio
        return float(groups[0]["lr"])

    def _refuse_unless(self, sound: bool, problem: str) -> None:
        if not sound:
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingError(f"step {self.steps}: {problem}")

    def save(self, path: Path) -> None:
        """Write all that the next step depends on: trainable weights, optimizer, step count, random states. Every rank
        calls it, rank 0 writes.

        Raises:
            TrainingError: if it cannot be written; an earlier file at `path` is untouched.
        """
        state = {
            "model": distributed.whole(self._trainable()),
            "optimizer": distributed.whole(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "steps": self.steps,
            "random": _random_state(self.device, self.generator),
        }
        if not dist.is_initialized() or dist.get_rank() == 0:
            write_checkpoint(path, state)

    def resume(self, path: Path) -> None:
        """Go on where `save` stood: the steps that follow are bit for bit those of a run that was never interrupted, on
        the same machine, if batches are drawn from `generator`, from torch or `random`, or by the step's number.

        Raises:
            TrainingError: if the file is damaged, or holds another model or optimizer; nothing has changed then.
        """
        state = read_checkpoint(path)
        self._check_fits(path, state)
        with torch.no_grad():
            for name, parameter in self._trainable().items():
                parameter.copy_(distributed.held_like(state["model"][name], parameter))
        moments = state["optimizer"]["state"]  # number of a parameter -> its entries
        for number, entries in moments.items():
            held = {key: distributed.held_like(value, self.parameters[number]) for key, value in entries.items()}
            moments[number] = held
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]
        _restore_random_state(state["random"], self.device, self.generator)

    def _trainable(self) -> dict[str, nn.Parameter]:
        inner = distributed.unwrap(self.model)
        return {name: parameter for name, parameter in inner.named_parameters() if parameter.requires_grad}

    def _check_fits(self, path: Path, state: Mapping[str, Any]) -> None:
        ours = {name: tuple(parameter.shape) for name, parameter in self._trainable().items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in state["model"].items()}
        if ours != theirs:
            name = min(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            raise TrainingError(
                f"{path}: '{name}' is {theirs.get(name, 'not there')}, the model's trainable one is "
                f"{ours.get(name, 'not there')}; resume with the model and adapter of the first run"
            )
        groups = [
            [len(group["params"]) for group in groups]
            for groups in (state["optimizer"]["param_groups"], self.optimizer.param_groups)
        ]
        if groups[0] != groups[1]:
            raise TrainingError(f"{path}: its optimizer has other parameter groups; make it as in the first run")


def _random_state(device: torch.device, generator: torch.Generator | None) -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "device": torch.get_device_module(device).get_rng_state() if device.type != "cpu" else None,
        "generator": None if generator is None else generator.get_state(),
    }


def _restore_random_state(state: Mapping[str, Any], device: torch.device, generator: torch.Generator | None) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"])
    if generator is not None and state["generator"] is not None:
        generator.set_state(state["generator"])
