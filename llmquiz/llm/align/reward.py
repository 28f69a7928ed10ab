"""A reward model: a decoder that reads a whole answer and says one number (Stiennon et al. 2020; Ouyang et al. 2022,
section 3.5).

The number is read at the *last real token*. A causal decoder's first token has seen nothing but itself, so a head there
scores every answer to a prompt alike; and the last position of a padded row is padding. There is no [CLS] in a decoder.

People rank two answers more reliably than they grade one, so it is trained on pairs (Bradley and Terry 1952):
P(chosen beats rejected) = sigmoid(r_chosen - r_rejected). Only differences count: the zero of the scale is free, unless
a centring term holds it.

Shapes: B rows, T tokens. A mask is [B, T], True at real tokens; padding may stand on either side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder


class RewardModel(nn.Module):
    """A decoder whose vocabulary head is left aside for a scalar one.

    The head starts at zero, so that every score is 0 and the first loss is exactly ln 2: what differs from it is a bug.
    The same module is PPO's critic, which needs the number at every token.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        weight = decoder.embed_tokens.weight
        self.score = nn.Linear(decoder.config.hidden_size, 1, bias=False, device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(self.score.weight)

    def token_scores(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:  # [B, T] twice -> [B, T]
        """The head's number at each token: [B, T], never [B, T, 1], which would broadcast against [B, T] targets."""
        hidden = self.decoder.hidden_states(self.decoder.embed_tokens(tokens), mask=mask)
        scores: Tensor = self.score(hidden).squeeze(-1)
        return scores

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:  # [B, T] twice -> [B]
        """The score of each row, however much it is padded.

        Raises:
            ModelError: if a row has no real token.
        """
        last = last_real_token(mask)[:, None]  # [B, 1]
        return self.token_scores(tokens, mask).gather(1, last).squeeze(1)


def last_real_token(mask: Tensor) -> Tensor:  # [B, T] -> [B]
    """The place of the last True of each row. Counting the real tokens would be right for right padding only.

    Raises:
        ModelError: if a row has none.
    """
    if not bool(mask.any(dim=1).all()):
        raise ModelError("reward: a row has no real token; leave empty answers out")
    places = torch.arange(mask.size(1), device=mask.device)
    return (mask.long() * places).amax(dim=1)


def pairwise_loss(
    chosen: Tensor, rejected: Tensor, *, margin: Tensor | None = None, centering: float = 0.0
) -> Tensor:  # [B] twice -> scalar
    """Mean of -log sigmoid(r_chosen - r_rejected - margin) + centering (r_chosen + r_rejected)^2.

    `logsigmoid`, not `-log(sigmoid(d))`: in fp32 the latter is inf with a gradient of NaN at d = -90, just where the
    model is most wrong; logsigmoid gives 90 and -1.

    Args:
        margin: [B], how much better the chosen answer was judged to be (Touvron et al. 2023, section 3.2.2).
        centering: weight of the pull of both scores towards 0 (Eisenstein et al. 2023).
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    return (centering * (chosen + rejected).square() - F.logsigmoid(difference)).mean()


def right_pad(
    sequences: Sequence[Tensor], *, pad: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:  # B times [T_i] -> [B, T] twice
    """Sequences of different lengths as one batch of tokens, with its mask."""
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
    tokens = nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=pad).to(device)
    return tokens, torch.arange(tokens.size(1), device=device) < lengths[:, None]


def predict(model: RewardModel, sequences: Sequence[Tensor], *, batch_size: int = 64) -> Tensor:  # -> [B]
    """Scores of sequences of any lengths, without gradients and without dropout.

    Raises:
        ModelError: if a sequence is empty.
    """
    device = model.score.weight.device
    starts = range(0, len(sequences), batch_size)
    with evaluating(model), torch.no_grad():
        parts = [model(*right_pad(sequences[start : start + batch_size], device=device)) for start in starts]
    return torch.cat(parts)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that was: a look at the rewards must not switch dropout off for good."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
