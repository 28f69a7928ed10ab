"""The same searches as transformers runs them: witnesses for our tokens and peers for our speed.

transformers is imported when a function is called. End tokens do not stop any of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def search_beams(model: Any, prompt: Tensor, max_new_tokens: int, beams: int) -> tuple[Tensor, Tensor]:
    """transformers' beam search: all hypotheses [B * W, N] without the prompt, and their mean log-probabilities."""
    found = _generate(
        model,
        prompt,
        max_new_tokens,
        num_beams=beams,
        num_return_sequences=beams,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return found.sequences[:, prompt.size(1) :], found.sequences_scores


def look_up_prompt(model: Any, prompt: Tensor, max_new_tokens: int, tokens_ahead: int) -> Tensor:  # [1, P] -> [1, N]
    """transformers' greedy speculation with n-grams of the text as the draft."""
    made: Tensor = _generate(model, prompt, max_new_tokens, prompt_lookup_num_tokens=tokens_ahead)
    return made[:, prompt.size(1) :]


def _generate(model: Any, prompt: Tensor, max_new_tokens: int, **settings: Any) -> Any:
    from transformers import GenerationConfig

    model.generation_config.eos_token_id = None  # it would count where the call names none
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0, **settings)
    return model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
