"""Where a lab computes. Torch is imported when one of these is called, never before."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

from llmquiz.core.errors import LabError

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(wanted: str = "auto") -> str:
    """The device to compute on: ``auto`` takes CUDA, then MPS, then the CPU. Without torch there is the CPU alone.

    Raises:
        LabError: if the wanted device is not there.
    """
    if wanted not in DEVICES:
        raise LabError(f"device '{wanted}' is not one of {', '.join(DEVICES)}")
    if wanted == "cpu":
        return "cpu"
    present = present_devices()
    if wanted == "auto":
        return present[0]
    if wanted not in present:
        raise LabError(f"this machine offers no {wanted} device to torch; use --device {present[0]}")
    return wanted


def device_name(device: str) -> str:
    """What the hardware calls itself, e.g. ``NVIDIA H100 80GB HBM3``; empty where it does not say."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return _cpu_name()


def synchronize(device: str) -> None:
    """Wait until the device has done its work; work on a GPU is queued, so a clock that is read without this lies."""
    if device == "cpu":
        return
    import torch

    torch.cuda.synchronize() if device == "cuda" else torch.mps.synchronize()


def memory_available(device: str = "cpu") -> int:
    """Bytes that can be allocated now. Estimate first and shrink, rather than run out."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def present_devices() -> list[str]:
    """The devices that torch offers here, fastest first; the CPU is always there."""
    if "torch" not in sys.modules and find_spec("torch") is None:
        return ["cpu"]
    import torch

    cuda = ["cuda"] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
