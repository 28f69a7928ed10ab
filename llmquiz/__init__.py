"""llmquiz: spaced repetition for LLM interviews, where a card opens the experiment that proves its answer."""

__version__ = "0.1.0"
