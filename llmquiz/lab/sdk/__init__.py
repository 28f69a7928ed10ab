"""What a lab imports: its parameters, its report, and honest ways to measure.

```python
from llmquiz.lab.sdk import Params, Report, growth_exponent

def run(params: Params, report: Report) -> None:
    for length in report.progress([64, 128, 256], unit="context"):
        report.point("latency", x=length, y=measure(length))
    report.claim("flat", measured=growth_exponent(report.series("latency")), expected=0.0, tolerance=0.1)
```

Importing this module never imports torch; the helpers that need it do so when they are called.
"""

from llmquiz.core.errors import LabError
from llmquiz.lab.sdk.device import device_name, memory_available, pick_device, synchronize
from llmquiz.lab.sdk.measure import (
    growth_exponent,
    interleaved_medians,
    median_seconds,
    quiet_clock,
    read_bandwidth,
    timed,
)
from llmquiz.lab.sdk.params import Params
from llmquiz.lab.sdk.report import Report

__all__ = [
    "LabError",
    "Params",
    "Report",
    "device_name",
    "growth_exponent",
    "interleaved_medians",
    "median_seconds",
    "memory_available",
    "pick_device",
    "quiet_clock",
    "read_bandwidth",
    "synchronize",
    "timed",
]
