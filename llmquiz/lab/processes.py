"""A tree of processes: who descends from whom, how much memory they hold, and how to end them all.

Linux is read through /proc; elsewhere `ps` is asked. No package is needed, since labs run where little is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

LINUX = sys.platform == "linux"
_HAS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, parents before children; without `pid` itself."""
    return _linux_descendants(pid) if _HAS_CHILDREN else _ps_descendants(pid)


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of the processes, in bytes. Pages that they share count once for each."""
    if not LINUX:
        table = _ps()
        return sum(table[pid][1] for pid in pids if pid in table)
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages += int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def end_group(group: int, number: signal.Signals) -> None:
    """Send a signal to every process of a group; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process; one that is gone is no error."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere nothing happens)."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def follow_parent(seconds: float = 0.5) -> None:
    """Kill this process and its group soon after its parent has died, for systems whose kernel does not."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        end_group(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="follow-parent").start()


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, so that none can slip away (Linux)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _linux_descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _linux_children(waiting.pop())
        found += children
        waiting += children
    return found


def _linux_children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (task / "children").read_text().split())
    return children


def _ps_descendants(pid: int) -> list[int]:
    table = _ps()
    found = [pid]
    for parent in found:
        found += [child for child, (its_parent, _) in table.items() if its_parent == parent and child not in found]
    return found[1:]


def _ps() -> dict[int, tuple[int, int]]:
    """pid -> (parent, resident bytes) of every process."""
    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,rss="], capture_output=True, text=True, check=False).stdout
    rows = [tuple(map(int, line.split())) for line in listing.splitlines()]
    return {pid: (parent, kilobytes * 1024) for pid, parent, kilobytes in rows}
