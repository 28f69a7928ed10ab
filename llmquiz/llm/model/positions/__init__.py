"""How a Transformer learns the order of its tokens: attention alone sees a set.

`absolute` adds a vector to each token, `rope` turns queries and keys, `alibi` lowers the scores of what is far away.
"""

from llmquiz.llm.model.positions.absolute import LearnedPositions, SinusoidalPositions
from llmquiz.llm.model.positions.alibi import alibi_bias, alibi_slopes
from llmquiz.llm.model.positions.rope import RotaryEmbedding, rope_frequencies, rotate

__all__ = [
    "LearnedPositions",
    "RotaryEmbedding",
    "SinusoidalPositions",
    "alibi_bias",
    "alibi_slopes",
    "rope_frequencies",
    "rotate",
]
