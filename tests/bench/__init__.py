"""Speed, as ratios against a peer in the same run; never part of the suite.

`make bench` runs all, `python -m tests.bench NAME…` some of them.
"""
