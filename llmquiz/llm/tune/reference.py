"""The same adapter as peft runs it and the same four bits as bitsandbytes runs them: witnesses and peers.

Importing this module imports both, which takes seconds. Where one is not installed, `PEFT` or `BITSANDBYTES` is False
and its function cannot be called.
"""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from llmquiz.llm.model import reference
from llmquiz.llm.model.decoder import Decoder

PEFT = reference.AVAILABLE and find_spec("peft") is not None
BITSANDBYTES = find_spec("bitsandbytes") is not None
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that it does not need
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    if PEFT:
        from peft import PeftModel
    if BITSANDBYTES:
        from bitsandbytes.nn import Linear4bit


def load_in_peft(base: Decoder, folder: Path) -> Any:
    """`base` in transformers with the adapter that `folder` holds, ready to train.

    Raises:
        ModelError: if Llama lacks a part of the model.
    """
    model = PeftModel.from_pretrained(reference.to_transformers(base), folder, is_trainable=True)
    return model.train(base.training)


def to_linear4bit(linear: nn.Linear) -> Any:
    """bitsandbytes' layer for a copy of this weight: NF4 in blocks of 64, scales in fp32. (In 8 bits its search on the
    CPU takes a neighbouring level for one scale in 500.)"""
    layer = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=linear.weight.dtype,
        compress_statistics=False,
        quant_type="nf4",
    )
    layer.load_state_dict({name: tensor.clone() for name, tensor in linear.state_dict().items()})
    return layer.to(linear.weight.device)  # the move is what quantizes
