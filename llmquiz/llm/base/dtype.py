"""Which number format to load a model in, from what the hardware computes natively, with the reasons.

"fp16 on a GPU, fp32 on a CPU" is wrong both ways. A GPU since Ampere has bf16, which keeps fp32's range, and a model
trained in bf16 can overflow in fp16 (65504 is the largest). A CPU computes fp16 and bf16 too: what differs is how fast,
and that depends on its instructions. And there is always an answer: hardware that the table does not know gets fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from llmquiz.llm.errors import ModelError


@dataclass(frozen=True, slots=True)
class Hardware:
    """What decides: the device's kind, an NVIDIA GPU's compute capability, a CPU's instruction sets."""

    kind: str
    capability: tuple[int, int] = (0, 0)
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Capability:
    """Formats whose products run at full speed from a compute capability on."""

    since: tuple[int, int]
    formats: tuple[str, ...]
    example: str


# CUDA C++ Programming Guide, "Compute Capabilities": formats of the tensor cores. Newest first.
CUDA = (
    Capability((8, 9), ("bfloat16", "float16", "float8"), "L4, RTX 4090, H100"),
    Capability((8, 0), ("bfloat16", "float16"), "A100, RTX 3090"),
    Capability((7, 0), ("float16",), "V100, T4"),
    Capability((0, 0), (), "Pascal and older"),
)
CPU_BF16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "bf16": "Arm's BF16"}  # flag in /proc/cpuinfo -> name
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Choice:
    """A format and why, one sentence each; a reason that starts with "warning:" speaks against it."""

    dtype: torch.dtype
    reasons: tuple[str, ...]


def choose_dtype(
    hardware: Hardware, *, wanted: str = "auto", training: bool = False, trained_in: torch.dtype | None = None
) -> Choice:
    """The format to load in.

    Args:
        wanted: `auto`, or a format that is taken whatever the hardware, with a warning where it is slow or unsafe.
        training: in fp16 small gradients vanish without loss scaling, so it is never chosen by itself.
        trained_in: the checkpoint's own format.

    Raises:
        ModelError: if `wanted` is no format.
    """
    if wanted != "auto" and wanted not in FORMATS:
        raise ModelError(f"dtype {wanted!r} is not one of auto, {', '.join(FORMATS)}")
    fast, why = native_formats(hardware)
    if wanted == "auto":
        name, reasons = _best(fast, training, trained_in)
        return Choice(FORMATS[name], (why, *reasons))
    reasons = ["asked for"]
    if wanted != "float32" and wanted not in fast:
        reasons.append(f"warning: {wanted} works here but is slow: {why}")
    return Choice(FORMATS[wanted], (*reasons, *_dangers(wanted, training, trained_in)))


def native_formats(hardware: Hardware) -> tuple[tuple[str, ...], str]:
    """The 16-bit formats that are fast, and how that is known."""
    if hardware.kind == "cuda":
        row = next(row for row in CUDA if hardware.capability >= row.since)
        major, minor = hardware.capability
        return row.formats, f"compute capability {major}.{minor} ({row.example}): {', '.join(row.formats) or 'float32'}"
    if hardware.kind == "mps":
        return ("float16",), "Apple GPU: float16 on every chip, bfloat16 on some only"
    if hardware.kind == "cpu":
        found = [name for flag, name in CPU_BF16.items() if flag in hardware.features]
        if found:
            return ("bfloat16",), f"CPU with {found[0]}: bfloat16 products in hardware"
        return (), "CPU without bfloat16 instructions: 16 bits halve the memory, not the time"
    return (), f"nothing is known of {hardware.kind!r}: float32 works everywhere"


def detect(device: torch.device | str) -> Hardware:
    """What `device` is, here and now."""
    kind = torch.device(device).type
    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return Hardware(kind, (major, minor))
    return Hardware(kind, features=_cpu_features() if kind == "cpu" else frozenset())


def _best(fast: tuple[str, ...], training: bool, trained_in: torch.dtype | None) -> tuple[str, list[str]]:
    if "bfloat16" in fast:
        keep = " over fp32 master weights" if training else ""
        return "bfloat16", [f"bfloat16{keep}: the range of float32 in half the bytes"]
    if "float16" in fast and training:
        return "float32", ["float32: training in float16 needs loss scaling, ask for it by name"]
    if "float16" in fast and trained_in is torch.bfloat16:
        return "float32", ["float32: the checkpoint is bfloat16, whose range float16 lacks"]
    if "float16" in fast:
        return "float16", ["float16: half the bytes of float32"]
    return "float32", ["float32: nothing shorter is faster here"]


def _dangers(wanted: str, training: bool, trained_in: torch.dtype | None) -> list[str]:
    if wanted != "float16":
        return []
    dangers = ["warning: gradients below 6e-8 vanish; scale the loss"] if training else []
    if trained_in is torch.bfloat16:
        dangers.append("warning: the checkpoint is bfloat16; values over 65504 become infinite")
    return dangers


def _cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(errors="replace").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86 says the one, Arm the other
            return frozenset(flags.split())
    return frozenset()
