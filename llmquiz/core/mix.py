"""Chance that can be repeated: the same seed gives the same fuzz and shuffle, on every machine and after a restart.

The generator is splitmix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix(seed: int) -> int:
    """64 bits that depend on every bit of `seed`."""
    z = (seed + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def fraction(seed: int) -> float:
    """A number from 0 up to, but not including, 1."""
    return (mix(seed) >> 11) / (1 << 53)


def shuffled(count: int, seed: int) -> tuple[int, ...]:
    """The numbers below `count` in an order that `seed` decides (Fisher and Yates)."""
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        seed = mix(seed)
        other = seed % (last + 1)
        order[last], order[other] = order[other], order[last]
    return tuple(order)
