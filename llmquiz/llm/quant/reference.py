"""Dynamic int8 as torch itself runs it: a peer.

torch.ao warns that it is deprecated; it still works, and its successor, torchao, is another package. Its layers have
one scale for a weight and one for all tokens of a batch, the latter over 7 bits of 8, so that sums of products fit into
the 16-bit accumulators of older processors. They run on the CPU alone, and hold packed objects instead of tensors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def to_torch_dynamic(model: nn.Module, paths: set[str]) -> Any:
    """A copy of the model with torch's dynamic layers in the place of the linear ones at `paths`."""
    convert: Callable[..., Any] = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert(copy.deepcopy(model), paths)
