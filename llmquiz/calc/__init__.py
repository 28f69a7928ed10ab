"""Estimates that an interviewer expects in the head: cache and training memory, FLOPs, what a split over GPUs costs.

Nothing here measures or imports torch. `formulas` are the laws as functions of plain numbers (a card's `check` may call
them), `shape` counts parameters, and each calculator makes a `Sheet`: lines with the formula in words, the same formula
with the numbers filled in, and its value.
"""
