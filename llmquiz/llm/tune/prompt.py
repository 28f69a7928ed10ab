"""Prompt tuning: learned embeddings before the text, in the input layer alone (Lester et al. 2021, section 2).

The soft prompt is a text in a language without words: P vectors that need not be any token's embedding. It takes part
in everything above like tokens do, so it costs P positions of context and of KV cache. Unlike prefix tuning it reaches
the upper layers only through the frozen weights: the fewest parameters, the weakest lever on a small model.

The logits at the soft positions predict nothing and are cut off; forgetting that shifts every label by P. Started from
the embeddings of real tokens (the paper's section 3.2), the tuned model *is* the model with that text before its input.

Shapes: P soft tokens, B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import AdapterError
from llmquiz.llm.model.decoder import Decoder


class PromptTuning(nn.Module):
    """A frozen decoder with P trainable embeddings before its input: P times hidden_size parameters.

    Args:
        model: the base; it is frozen.
        text: [P] tokens whose embeddings the prompt starts from.

    Raises:
        AdapterError: if the text is empty.
    """

    def __init__(self, model: Decoder, text: Tensor) -> None:
        super().__init__()
        if not text.numel():
            raise AdapterError("prompt tuning: the text to start from is empty; give it at least one token")
        self.model = model.requires_grad_(False)
        self.prompt = nn.Parameter(model.embed_tokens(text).detach().clone())  # [P, hidden]

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        """Logits of the token that follows each of `tokens`."""
        prompt = self.prompt.expand(tokens.size(0), -1, -1)
        embeddings = torch.cat((prompt, self.model.embed_tokens(tokens)), dim=1)  # [B, P + T, hidden]
        logits: Tensor = self.model.lm_head(self.model.hidden_states(embeddings)[:, self.prompt.size(0) :])
        return logits
