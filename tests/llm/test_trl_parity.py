"""The same numbers as TRL: its own loss functions on given log-probabilities, its own trainers for the advantages.

A loss is called as TRL's trainer calls it, on a stand-in that carries the configuration and no more; the "model" hands
out the log-probabilities to compare on.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from llmquiz.llm.align.group import (  # noqa: E402
    clip_fraction,
    dapo_loss,
    dr_grpo_advantages,
    dr_grpo_loss,
    grpo_advantages,
    grpo_loss,
    overlong_penalty,
    rloo_advantages,
    rloo_loss,
)
from llmquiz.llm.align.logprobs import mean_logprobs, sequence_logprobs  # noqa: E402
from llmquiz.llm.align.preference import dpo_loss, ipo_loss, kto_kl, kto_loss, orpo_loss, simpo_loss  # noqa: E402

pytestmark = [pytest.mark.labs, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PAIRS, TOKENS, BETA = 6, 9, 0.3
LONGEST = 12


@pytest.fixture(scope="module")
def trl() -> Any:
    """TRL's trainers; importing them takes seconds, and prints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import trl
        import trl.experimental.cpo
        import trl.experimental.orpo
        import trl.rewards
    return trl


class OneProcess:
    """What a trainer asks of accelerate when it runs alone."""

    device = torch.device("cpu")
    num_processes = 1

    def gather(self, tensor: Any) -> Any:
        return tensor

    gather_for_metrics = gather

    def reduce(self, tensor: Any, reduction: str) -> Any:
        return tensor


def settings(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(
        accelerator=OneProcess(),
        model=SimpleNamespace(training=False),
        aux_loss_enabled=False,
        beta=BETA,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        **values,
    )


def handing_out(logprobs: Any) -> Any:
    """A model whose log-probabilities are these."""
    zeros = torch.zeros_like(logprobs)
    output = SimpleNamespace(log_probs=logprobs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    return lambda **_: output


def completions(rows: int, seed: int) -> tuple[Any, Any, Any]:
    """Masks of ragged completions, and log-probabilities under policy and reference that are zero outside of them."""
    generator = torch.Generator().manual_seed(seed)
    starts, ends = (
        torch.randint(1, 3, (rows, 1), generator=generator),
        torch.randint(4, 9, (rows, 1), generator=generator),
    )
    place = torch.arange(TOKENS - 1)
    mask = (place >= starts) & (place < ends)
    policy, reference = (-2 * torch.rand(2, rows, TOKENS - 1, generator=generator)) * mask
    return mask, policy, reference


def trl_dpo(trl: Any, loss: str, mask: Any, policy: Any, reference: Any) -> Any:
    trainer = settings(
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss],
        loss_weights=[1.0],
        label_smoothing=0.0,
        use_weighting=False,
    )
    reference_chosen, reference_rejected = sequence_logprobs(reference, mask).chunk(2)
    completion_mask = torch.cat((torch.zeros(len(mask), 1), mask), dim=1).long()
    inputs = {
        "input_ids": torch.zeros_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask),
        "completion_mask": completion_mask,
        "ref_chosen_logps": reference_chosen,
        "ref_rejected_logps": reference_rejected,
    }
    return trl.DPOTrainer._compute_loss(trainer, handing_out(policy), inputs, False)


def test_dpo(trl: Any) -> None:
    mask, policy, reference = completions(2 * PAIRS, seed=0)
    (chosen, rejected), (reference_chosen, reference_rejected) = (
        sequence_logprobs(logprobs, mask).chunk(2) for logprobs in (policy, reference)
    )
    ours = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=BETA)

    torch.testing.assert_close(ours.mean(), trl_dpo(trl, "sigmoid", mask, policy, reference))


def test_ipo_averages_over_tokens(trl: Any) -> None:
    mask, policy, reference = completions(2 * PAIRS, seed=1)
    (chosen, rejected), (reference_chosen, reference_rejected) = (
        mean_logprobs(logprobs, mask).chunk(2) for logprobs in (policy, reference)
    )
    ours = ipo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=BETA)

    torch.testing.assert_close(ours.mean(), trl_dpo(trl, "ipo", mask, policy, reference))


@pytest.mark.parametrize("nearer", [1.0, 2.0])  # twice the log-probability: a negative estimate of the KL, cut at zero
def test_kto(trl: Any, nearer: float) -> None:
    mask, policy, reference = completions(PAIRS, seed=2)
    _, others_policy, others_reference = completions(PAIRS, seed=3)
    others_policy = others_policy * nearer
    desirable = torch.tensor([True, False, True, True, False, False])
    pairs = (others_policy.sum(1), others_reference.sum(1))
    trainer = settings(
        calculate_KL=True,
        precompute_ref_logps=True,
        loss_type="kto",
        desirable_weight=1.5,
        undesirable_weight=0.7,
        _compute_kl_logps=lambda model, batch: pairs[0],
    )
    completion_mask = torch.cat((torch.zeros(PAIRS, 1), mask), dim=1).long()
    inputs = {
        "input_ids": torch.zeros_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask),
        "completion_mask": completion_mask,
        "label": desirable,
        "ref_logps": reference.sum(1),
        "ref_KL_logps": pairs[1],
    }
    theirs = trl.KTOTrainer._compute_loss(trainer, handing_out(policy), inputs, False)
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.7}
    ours = kto_loss(policy.sum(1), reference.sum(1), desirable, kto_kl(*pairs), beta=BETA, **weights)

    assert (kto_kl(*pairs) == 0) == (nearer == 2.0)
    torch.testing.assert_close(ours.mean(), theirs)


def test_simpo_and_label_smoothing_as_in_cpo(trl: Any) -> None:
    mask, policy, _ = completions(2 * PAIRS, seed=4)
    chosen, rejected = mean_logprobs(policy, mask).chunk(2)
    simpo = settings(alpha=0.0, loss_type="simpo", simpo_gamma=0.8, label_smoothing=0.0)
    smooth = settings(alpha=0.0, loss_type="sigmoid", label_smoothing=0.2)
    nothing = torch.zeros(PAIRS)

    torch.testing.assert_close(
        simpo_loss(chosen, rejected, beta=BETA, gamma=0.8),
        trl.experimental.cpo.CPOTrainer.cpo_loss(simpo, chosen, rejected)[0],
    )
    torch.testing.assert_close(  # CPO is DPO whose reference is uniform
        dpo_loss(chosen, rejected, nothing, nothing, beta=BETA, label_smoothing=0.2),
        trl.experimental.cpo.CPOTrainer.cpo_loss(smooth, chosen, rejected)[0],
    )


def test_orpo(trl: Any) -> None:
    mask, policy, _ = completions(2 * PAIRS, seed=5)
    chosen, rejected = mean_logprobs(policy, mask).chunk(2)
    theirs = -chosen - trl.experimental.orpo.ORPOTrainer.odds_ratio_loss(settings(), chosen, rejected)[0]

    torch.testing.assert_close(orpo_loss(chosen, rejected, beta=BETA), theirs)


@pytest.fixture
def tokens() -> Any:
    """Ragged completions with log-probabilities now, when they were drawn, and under the reference; advantages."""
    generator = torch.Generator().manual_seed(6)
    mask = torch.arange(TOKENS) < torch.randint(2, TOKENS + 1, (8, 1), generator=generator)
    old = -2 * torch.rand(8, TOKENS, generator=generator) * mask
    new = old + 0.3 * torch.randn(8, TOKENS, generator=generator) * mask
    reference = old + 0.2 * torch.randn(8, TOKENS, generator=generator) * mask
    return SimpleNamespace(
        mask=mask, old=old, new=new, reference=reference, advantages=torch.randn(8, generator=generator)
    )


def trl_grpo(trl: Any, loss: str, tokens: Any, *, beta: float = 0.0, high: float = 0.2) -> tuple[Any, float]:
    """TRL's loss and the part of the tokens that it calls clipped."""
    trainer = settings(
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        loss_type=loss,
        epsilon_low=0.2,
        epsilon_high=high,
        use_vllm=False,
        max_completion_length=LONGEST,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (tokens.new, torch.zeros_like(tokens.new), None),
    )
    trainer.beta = beta
    inputs = {
        "prompt_ids": torch.zeros(8, 2, dtype=torch.long),
        "prompt_mask": torch.ones(8, 2, dtype=torch.long),
        "completion_ids": torch.zeros_like(tokens.mask, dtype=torch.long),
        "completion_mask": tokens.mask.long(),
        "advantages": tokens.advantages,
        "old_per_token_logps": tokens.old,
        "ref_per_token_logps": tokens.reference,
        "num_items_in_batch": tokens.mask.sum(),
    }
    value = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
    return value, trainer._metrics["eval"]["clip_ratio/region_mean"][0]


def test_grpo(trl: Any, tokens: Any) -> None:
    theirs, clipped = trl_grpo(trl, "grpo", tokens, beta=0.1)
    terms = (tokens.new, tokens.old, tokens.advantages, tokens.mask)

    torch.testing.assert_close(grpo_loss(*terms, reference_logprobs=tokens.reference, beta=0.1), theirs)
    assert 0.1 < clipped < 0.9
    assert float(clip_fraction(*terms)) == pytest.approx(clipped)


def test_dr_grpo(trl: Any, tokens: Any) -> None:
    theirs, _ = trl_grpo(trl, "dr_grpo", tokens)

    torch.testing.assert_close(
        dr_grpo_loss(tokens.new, tokens.old, tokens.advantages, tokens.mask, longest=LONGEST), theirs
    )


def test_dapo(trl: Any, tokens: Any) -> None:
    theirs, clipped = trl_grpo(trl, "dapo", tokens, high=0.28)
    terms = (tokens.new, tokens.old, tokens.advantages, tokens.mask)

    torch.testing.assert_close(dapo_loss(*terms), theirs)
    assert float(clip_fraction(*terms, high=0.28)) == pytest.approx(clipped)


def test_rloo(trl: Any, tokens: Any) -> None:
    trainer = settings(
        epsilon_low=0.2,
        epsilon_high=0.2,
        _get_per_token_logps_and_entropies=lambda *_, **__: (tokens.new, torch.zeros_like(tokens.new), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(8, 2, dtype=torch.long),
        "prompt_mask": torch.ones(8, 2, dtype=torch.long),
        "completion_ids": torch.zeros_like(tokens.mask, dtype=torch.long),
        "completion_mask": tokens.mask.long(),
        "advantages": tokens.advantages,
        "old_logps": tokens.old.sum(1),
    }
    theirs = trl.RLOOTrainer._compute_loss(trainer, None, inputs)

    torch.testing.assert_close(rloo_loss(tokens.new, tokens.old, tokens.advantages, tokens.mask), theirs)


def test_overlong_penalty(trl: Any) -> None:
    theirs = trl.rewards.get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = [1, 79, 80, 81, 90, 99, 100, 101, 300]
    ours = overlong_penalty(torch.tensor(lengths), longest=100, buffer=20)

    assert ours.tolist() == pytest.approx(theirs(completion_ids=[[0] * length for length in lengths]))


@pytest.mark.parametrize(
    ("method", "scale", "advantages"),
    [("GRPO", "group", grpo_advantages), ("GRPO", "none", dr_grpo_advantages), ("RLOO", None, rloo_advantages)],
)
def test_advantages_of_a_real_trainer(
    trl: Any, tmp_path: Path, method: str, scale: str | None, advantages: Any
) -> None:
    """One step of TRL's trainer on a tiny model, with the advantages that it made of the rewards that it was given."""
    seen: dict[str, Any] = {}

    class Watched(getattr(trl, f"{method}Trainer")):  # type: ignore[misc]
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)  # it is shuffled afterwards
            seen["advantages"] = batch["advantages"]
            return batch

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        seen["rewards"] = [sum(ids) % 7 / 3 for ids in completion_ids]
        return list(seen["rewards"])

    options = {} if scale is None else {"scale_rewards": scale}
    config = getattr(trl, f"{method}Config")(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=5,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        shuffle_dataset=False,
        seed=0,
        **options,
    )
    model, tokenizer, dataset = tiny_model_and_data()
    Watched(model, reward, config, train_dataset=dataset, processing_class=tokenizer).train()

    rewards = torch.tensor(seen["rewards"]).view(2, 4)
    assert len(set(seen["rewards"])) > 2
    torch.testing.assert_close(advantages(rewards).flatten(), seen["advantages"].cpu(), rtol=1e-4, atol=1e-5)


def tiny_model_and_data() -> tuple[Any, Any, Any]:
    """Two prompts of two words, and a Llama of two thousand parameters."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate(["<pad>", "<eos>", *"abcdefghijklmn"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    return LlamaForCausalLM(config), tokenizer, Dataset.from_dict({"prompt": ["a b", "c d"]})
