"""Leaving with the terminal: when its window is closed or the connection drops, the app ends.

The kernel's SIGHUP goes to the session leader alone. Where that is a program that waits for us (make, a script), nobody
tells us; Textual would then spin on a terminal that is gone. Every answer is on disk already, labs end with us.
"""

from __future__ import annotations

import os
import select
import sys
import threading

EXIT_CODE = 129  # as a shell reports SIGHUP


def leave_with_terminal() -> None:
    """Watch the terminal on stdin from now on; end the process when it hangs up."""
    if hasattr(select, "poll") and sys.stdin.isatty():
        threading.Thread(target=_watch, args=(sys.stdin.fileno(),), name="hangup", daemon=True).start()


def _watch(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # no data, only a hang-up or an error
    events = poll.poll()
    if any(event & (select.POLLHUP | select.POLLERR) for _, event in events) and not os.isatty(descriptor):
        os._exit(EXIT_CODE)
