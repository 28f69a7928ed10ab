"""The GRPO lab: what its checker takes for right, what DAPO keeps, and numbers that agree with each other."""

from __future__ import annotations

import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.lab.sdk import LabError, Params, Report  # noqa: E402
from llmquiz.llm.align.rollout import Rollout  # noqa: E402
from llmquiz.llm.align.sums import Sums, first_number  # noqa: E402
from llmquiz.llm.base.load import FOLDER, LanguageModel, base_model  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

from .running import load_script, run_here  # noqa: E402

pytestmark = pytest.mark.labs

QUICK = {"size": "tiny", "group": 4}
SETTINGS = {"method": "all", "size": "tiny", "group": 4, "beta": 0.02, "learning_rate": 2e-3, "steps": 2}


@pytest.fixture(scope="module")
def training() -> Any:
    """The lab's module of that name."""
    return sys.modules[f"{load_script('grpo').__name__}.training"]


@pytest.fixture(scope="module")
def lab(training: Any) -> Any:
    """Untrained, so that its rollouts are of every kind."""
    size = training.SIZES["tiny"]
    model = random_decoder(size.config, 0)
    return training.Lab(model, size, Params(SETTINGS), *(torch.Generator().manual_seed(seed) for seed in (0, 1)))


@pytest.mark.slow
def test_its_numbers_agree_with_each_other() -> None:
    results = run_here("grpo", **QUICK)
    metrics = results.metrics
    _, first, learned = results.tables
    rows = {row[0]: dict(zip(learned.columns, row, strict=True)) for row in learned.rows}

    assert set(results.claims) == {
        "reward-rises",
        "sharpens",
        "first-loss",
        "equal-groups",
        "success-starves",
        "kl-in-reward",
        "kl-in-loss",
    }
    assert list(rows) == ["imitation", "grpo", "dr-grpo", "dapo", "rloo"]
    assert metrics["reward_before"] == rows["imitation"]["reward"]
    assert metrics["reward_after"] == rows["grpo"]["reward"]
    assert rows["imitation"]["KL"] == pytest.approx(0.0, abs=1e-6)
    assert rows["dapo"]["rollouts"] == 2 * rows["grpo"]["rollouts"] == 2 * 20 * 8 * 4
    assert all(row["reward"] <= row["pass@4"] for row in rows.values())
    assert abs(metrics["first_loss"]) < 1e-5 < metrics["first_gradient"]
    assert {point.series for point in results.points} == {"grpo", "dr-grpo", "dapo", "rloo"}
    assert results.claims["kl-in-reward"].held
    assert results.claims["kl-in-loss"].held
    assert results.claims["equal-groups"].held
    assert first.rows[-1][2] == first.rows[-2][2] == 0


def test_one_method_alone() -> None:
    results = run_here("grpo", {"BANDIT_STEPS": 2}, **QUICK, method="rloo", steps=2)

    assert [row[0] for row in results.tables[-1].rows] == ["imitation", "rloo"]
    assert len(results.points) == 2


def test_only_sorted_digits_with_an_end_after_them_are_right(training: Any, lab: Any) -> None:
    end, separator = training.END, training.SEPARATOR
    prompt = [7, 2, separator]
    completions = [[2, 7, end, end], [7, 2, end, end], [2, 7, 7, end], [2, 7, 7, 7], [2, end, end, end]]
    lengths = torch.tensor([3, 3, 4, 4, 2])
    mask = torch.arange(4) < lengths[:, None]
    tokens = torch.tensor([prompt + completion for completion in completions])
    one_each = training.Lab(lab.reference, lab.size, Params({**SETTINGS, "group": 1}), lab.generator, lab.sampler)

    assert one_each.rewards(Rollout(tokens, mask, torch.zeros(5, 4))).flatten().tolist() == [1, 0, 0, 0, 0]


def test_completions_that_all_ended_at_once_are_wrong(training: Any, lab: Any) -> None:
    tokens = torch.tensor([[7, 2, training.SEPARATOR, training.END]] * 4)
    rollout = Rollout(tokens, torch.ones(4, 1, dtype=torch.bool), torch.zeros(4, 1))

    assert lab.rewards(rollout).tolist() == [[0, 0, 0, 0]]


def test_demonstrations_are_of_three_kinds(training: Any, lab: Any) -> None:
    demonstrations = lab.demonstrations(300)
    prompt, answer = demonstrations[:, :2], demonstrations[:, 3:5]
    kinds = (answer == prompt.sort(1).values).all(1), (answer == prompt.sort(1, descending=True).values).all(1)

    assert (demonstrations[:, 5] == training.END).all()
    assert (kinds[0] | kinds[1]).all()  # a copy of two digits is one of them
    assert 0.4 < float(kinds[0].float().mean()) < 0.6


def test_dapo_keeps_the_groups_that_differ(lab: Any, training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a checker that an untrained model satisfies now and then."""
    monkeypatch.setattr(training.Lab, "rewards", lambda self, made: (made.completions[:, 0] < 2).float().view(-1, 4))
    rollout, rewards, mean = training.collect(lab, lab.reference, "dapo")

    assert 0 < len(rewards) <= lab.size.prompts
    assert len(rollout.tokens) == rewards.numel()
    assert (rewards.amax(1) > rewards.amin(1)).all()
    assert mean != float(rewards.mean())  # of all that were drawn
    torch.testing.assert_close(lab.rewards(rollout), rewards)


def test_a_step_in_which_no_group_differs_is_left_out(training: Any, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.Lab, "rewards", lambda self, rollout: torch.zeros(len(rollout.tokens) // 4, 4))
    policy, spent = training.train(lab, "dapo", Report(lambda event: None))

    assert spent.clipped == 0
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), lab.reference.parameters(), strict=True))


@pytest.mark.parametrize("beta", [0.05, 0.2, 2.0])
def test_the_optimum_with_kl_in_the_loss_is_a_policy(training: Any, beta: float) -> None:
    bandit = sys.modules[training.__name__.replace("training", "bandit")]
    generator = torch.Generator().manual_seed(1)
    reference, rewards = torch.randn(9, generator=generator).log_softmax(0), torch.rand(9, generator=generator)
    optimum = bandit.loss_optimum(reference, rewards, beta)

    assert float(optimum.exp().sum()) == pytest.approx(1.0, abs=1e-3)
    assert float((optimum.exp() * rewards).sum()) > float((reference.exp() * rewards).sum())


@pytest.mark.slow
def test_a_model_of_the_readers_own_learns_sums_besides() -> None:
    settings = QUICK | {"method": "rloo", "steps": 2}
    alone = run_here("grpo", {"BANDIT_STEPS": 2}, **settings)
    besides = run_here("grpo", {"BANDIT_STEPS": 2}, **settings, model=str(FOLDER))
    before, after = (dict(zip(besides.tables[-1].columns, row, strict=True)) for row in besides.tables[-1].rows)

    assert besides.metrics == alone.metrics
    assert besides.tables[:-1] == alone.tables
    assert besides.claims == alone.claims
    assert [point.x for point in besides.points if point.series == "your model, rloo"] == [0, 1]
    assert 0 <= before["reward"] <= before["pass@4"] <= 1
    assert before["KL"] == pytest.approx(0.0, abs=1e-6)
    assert after["KL"] > 1e-6
    assert after["rollouts"] == 2 * 8 * 4


def test_a_model_without_our_cache_is_refused_before_anything_is_run() -> None:
    other = LanguageModel(torch.nn.Linear(1, 1), base_model().tokenizer, "other")
    with pytest.raises(LabError, match="Llama family"):
        run_here("grpo", {"base_model": lambda name, device: other}, **QUICK, model="other")


def test_sums_are_of_one_length_and_judged_by_the_first_number_before_the_end() -> None:
    tokenizer = base_model().tokenizer
    sums = Sums(tokenizer, 9, seed=0)
    prompts = sums.draw(4, torch.Generator().manual_seed(0))
    a, b = (int(part) for part in tokenizer.decode(prompts[0, 1:]).rstrip(" =").split("+"))
    written = [f" {a + b}.", f" {a + b}0", f" 0, no: {a + b}", "?"]
    lines = [tokenizer.encode(text) for text in written]
    longest = max(map(len, lines))
    completions = torch.tensor([line + [sums.end] * (longest - len(line)) for line in lines])
    mask = torch.arange(longest) < torch.tensor([len(line) for line in lines])[:, None]
    tokens = torch.cat((prompts[:1].expand(4, -1), completions), dim=1)
    unseen = Rollout(tokens, torch.zeros_like(mask), torch.zeros(mask.shape))

    assert sums.judge(Rollout(tokens, mask, torch.zeros(mask.shape))).tolist() == [1, 0, 0, 0]
    assert sums.judge(unseen).tolist() == [0, 0, 0, 0]  # what stands after the end was not written
    assert sums.longest > len(tokenizer.encode(" 18"))


@pytest.mark.parametrize(("text", "number"), [(" 42\n1", 42), ("= -7", 7), ("", None), ("²", None), ("so 05", 5)])
def test_the_first_number_of_a_text(text: str, number: int | None) -> None:
    assert first_number(text) == number
