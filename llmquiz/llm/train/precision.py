"""Number formats, and the three repairs that make narrow ones fit for training (Micikevicius et al. 2018).

A format with an exponent of e bits and a mantissa of m bits has range from e and resolution from m. fp16 (5, 10) runs
out of range: a gradient below 3e-8 becomes 0. bf16 (8, 7) has the range of fp32 and runs out of resolution: an update
smaller than half the spacing at a weight is rounded away, every time, and the weight stays where it is for ever.
So the repairs differ. Loss scaling lifts gradients into fp16's range, and bf16 does not need it. Master weights in
fp32, or stochastic rounding, keep small updates, and both formats need one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def running_sum(values: Iterable[Tensor]) -> Tensor:
    """One accumulator in the values' own format. `Tensor.sum` does not do this: it adds in fp32 and rounds once."""
    total = torch.tensor(0.0)
    for value in values:
        total = total.to(value.dtype) + value
    return total


def compensated_sum(values: Iterable[Tensor]) -> Tensor:
    """The same with a second number of that format, which keeps what the last addition rounded away (Kahan 1965)."""
    total = lost = torch.tensor(0.0)
    for value in values:
        total, lost = total.to(value.dtype), lost.to(value.dtype)
        term = value + lost
        grown = total + term
        lost = term - (grown - total)  # (grown - total) is what arrived of `term`
        total = grown
    return total


def round_stochastically(x: Tensor) -> Tensor:
    """fp32 to bf16, up or down with a probability that makes the mean right: an update of a tenth of the spacing
    arrives once in ten times.

    bf16 is the upper half of fp32's bits, so it is enough to add a random lower half and to cut.
    """
    bits = x.float().view(torch.int32)
    noise = torch.randint(0, 2**16, x.shape, dtype=torch.int32, device=x.device)
    return ((bits + noise) & -(2**16)).view(torch.float32).bfloat16()


class MasterWeights:
    """An optimizer on fp32 copies of narrow weights, which are rounded anew after each step.

    Args:
        parameters: the narrow weights that the model computes with; their gradients are taken and cleared.
        make_optimizer: gets the copies and gives the optimizer that moves them.
        stochastic: remember no copy from step to step, and round stochastically instead.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
        *,
        stochastic: bool = False,
    ) -> None:
        self.parameters, self.stochastic = list(parameters), stochastic
        self.masters = [weight.detach().float().clone() for weight in self.parameters]
        self.optimizer = make_optimizer(self.masters)

    @torch.no_grad()
    def step(self) -> None:
        for weight, master in zip(self.parameters, self.masters, strict=True):
            if self.stochastic:
                master.copy_(weight)
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        self.optimizer.step()
        for weight, master in zip(self.parameters, self.masters, strict=True):
            weight.copy_(round_stochastically(master) if self.stochastic else master)


class LossScaler:
    """Multiplies the loss, so that small gradients survive the backward pass in fp16, and divides the gradients after.

    The scale adapts: it halves when a gradient overflows, and that step is skipped; it doubles after `interval` steps
    without. A skipped step now and then is how it should look.
    """

    def __init__(self, scale: float = 2.0**16, interval: int = 2000) -> None:
        self.scale, self.interval, self.good_steps = scale, interval, 0

    def scaled(self, loss: Tensor) -> Tensor:
        """What to call `backward` on."""
        return loss * self.scale

    @torch.no_grad()
    def unscale(self, parameters: Iterable[Tensor]) -> bool:
        """Divide the gradients, before they are clipped; tell whether all are finite. If not, skip the step."""
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        for gradient in gradients:
            gradient /= self.scale
        finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good_steps % self.interval == 0:
            self.scale *= 2
        return finite
