"""Learning rates over the steps of a run. A schedule is a function: step (from 0) -> rate.

Warm-up is there because Adam's first second moments come from few gradients: its early steps have nearly full length in
every coordinate however small the gradient. The cosine (Loshchilov and Hutter 2017, section 3) must know the last step
in advance and is wrong for any other; warm-up, stable, decay (Hu et al. 2024, MiniCPM, section 4) keeps one rate and
decays only at the end, so that a run can be prolonged from its stable part.

```python
schedule = partial(warmup_cosine, warmup=100, total=1000, peak=3e-4)
```
"""

from __future__ import annotations

import math


def constant(step: int, *, peak: float, warmup: int = 0) -> float:
    """`peak` throughout, after a linear rise over `warmup` steps."""
    return peak * _rise(step, warmup)


def warmup_cosine(step: int, *, warmup: int, total: int, peak: float, floor: float = 0.0) -> float:
    """Linear rise to `peak` over `warmup` steps, then half a cosine down to `floor` at step `total`, where it stays."""
    done = _fraction(step, warmup, total)
    return _rise(step, warmup) * (floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def warmup_stable_decay(
    step: int, *, warmup: int, total: int, peak: float, floor: float = 0.0, decay: float = 0.2
) -> float:
    """Linear rise, `peak` until the last `decay` part of `total`, then a straight line down to `floor`."""
    done = _fraction(step, total - round(decay * total), total)
    return _rise(step, warmup) * (peak + (floor - peak) * done)


def _rise(step: int, warmup: int) -> float:
    """1 / warmup at step 0, for a step at rate 0 would be lost; 1 from step warmup - 1 on."""
    return min(1.0, (step + 1) / max(1, warmup))


def _fraction(step: int, start: int, end: int) -> float:
    """How far `step` is from `start` to `end`, in [0, 1]."""
    return min(1.0, max(0.0, (step - start) / max(1, end - start)))
