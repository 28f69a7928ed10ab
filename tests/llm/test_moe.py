"""Routing against a loop over tokens, against Mixtral and DeepSeek-V3 in transformers, and against its own promises."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.model.moe import MixtureOfExperts, MoEConfig, Router, balancing_loss, load  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(32, 16, 2, 2, 2, 8, 24)
EIGHT = MoEConfig(8, 2, 24)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def mixture(**changes: Any) -> MixtureOfExperts:
    return MixtureOfExperts(CONFIG, replace(EIGHT, **changes))


def token_by_token(layer: MixtureOfExperts, x: Any) -> Any:
    """The definition: softmax over all experts, the best K, renormalised, one token at a time."""
    rows = []
    for token in x.reshape(-1, x.size(-1)):
        probabilities = (layer.router.weight @ token).softmax(0)
        best = probabilities.topk(layer.router.config.top_k)
        weights = best.values / best.values.sum() if len(best.values) > 1 else best.values
        out = sum(network(token) for network in layer.shared)
        for weight, expert in zip(weights, best.indices.tolist(), strict=True):
            out = out + weight * layer.experts[expert](token)
        rows.append(out)
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize("changes", [{}, {"top_k": 1}, {"top_k": 8}, {"num_shared": 2}])
def test_it_equals_a_loop_over_tokens(changes: dict[str, int]) -> None:
    layer, x = mixture(**changes), torch.randn(2, 9, 16)

    torch.testing.assert_close(layer(x), token_by_token(layer, x), rtol=1e-5, atol=1e-6)


def test_gradients_equal_those_of_the_loop() -> None:
    layer, x = mixture(), torch.randn(3, 5, 16, requires_grad=True)
    ours = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    loop = torch.autograd.grad(token_by_token(layer, x).square().sum(), [x, *layer.parameters()], allow_unused=True)

    for found, right in zip(ours, loop, strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if right is None else right, rtol=1e-4, atol=1e-6)


def test_no_token_sees_another() -> None:
    layer, x = mixture(), torch.randn(12, 16)
    changed = torch.cat((x[:-1], -x[-1:]))

    torch.testing.assert_close(layer(changed)[:-1], layer(x)[:-1], rtol=1e-6, atol=1e-6)  # other sizes, other rounding
    shuffle = torch.randperm(12)
    torch.testing.assert_close(layer(x[shuffle]), layer(x)[shuffle])


def test_a_layout_that_is_not_contiguous_is_fine() -> None:
    layer, x = mixture(), torch.randn(5, 2, 16).transpose(0, 1)

    torch.testing.assert_close(layer(x), layer(x.contiguous()))


def test_one_choice_keeps_the_routers_gradient() -> None:
    layer = mixture(top_k=1)
    layer(torch.randn(20, 16)).square().sum().backward()

    assert layer.router.weight.grad.norm() > 0.01


def test_shared_experts_and_drop_in() -> None:
    model = random_decoder(CONFIG, seed=0)
    for layer in model.layers:
        layer.mlp = mixture(num_shared=1)
    logits = model(torch.arange(12).view(2, 6))
    logits.sum().backward()

    assert logits.shape == (2, 6, 32)
    assert all(layer.mlp.routing.counts().sum() == 12 * 2 for layer in model.layers)


@torch.no_grad()
def test_an_even_load_has_the_least_loss() -> None:
    router = Router(8, MoEConfig(8, 2, 4))
    with torch.no_grad():
        router.weight.copy_(torch.eye(8))
    even = torch.eye(8) + torch.eye(8).roll(1, dims=1) * 0.5  # token i chooses i, then i + 1
    routed = router(even)
    one_sided = router(even[:1].repeat(8, 1))

    assert load(routed).shares == pytest.approx([1 / 8] * 8)
    assert (load(routed).max_over_mean, load(routed).variation, load(routed).dropped) == pytest.approx((1, 0, 0))
    assert float(balancing_loss(routed)) == pytest.approx(2)  # K
    assert load(one_sided).max_over_mean == 4  # E / K
    assert float(balancing_loss(one_sided)) > 2.5


def test_the_balancing_loss_pushes_down_what_is_chosen_most() -> None:
    router = Router(16, EIGHT)
    routing = router(torch.randn(64, 16) + 2)
    gradient = torch.autograd.grad(balancing_loss(routing), routing.logits)[0].mean(0)

    assert gradient[routing.counts().argmax()] == gradient.max() > 0


def test_the_bias_moves_choices_and_not_weights() -> None:
    router, x = Router(16, EIGHT), torch.randn(40, 16)
    before = router(x)
    router.bias[3] = 10.0
    after = router(x)

    assert (after.experts[:, 0] == 3).all()
    scores = before.logits.softmax(-1).gather(1, after.experts)
    torch.testing.assert_close(after.weights, scores / scores.sum(-1, keepdim=True))
    router.update_bias(after.counts(), rate=0.5)
    expected = 0.5 * (after.counts().float().mean() - after.counts()).sign()
    torch.testing.assert_close(router.bias - 10 * torch.eye(8)[3], expected)


def test_updates_of_the_bias_even_the_load() -> None:
    router, x = Router(16, EIGHT), torch.randn(512, 16) + 2
    first = load(router(x)).max_over_mean
    for _ in range(400):
        router.update_bias(router(x).counts(), rate=0.002)

    assert first > 2.5
    assert load(router(x)).max_over_mean < 1.3


def test_a_full_expert_drops_the_last_and_the_second_choices_first() -> None:
    layer = mixture(capacity_factor=1.0)
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[0], layer.router.weight[1] = 2.0, 1.0
    x = torch.rand(8, 16) + 0.1  # all choose expert 0, then 1; each has room for 8 * 2 / 8 = 2
    out = layer(x)

    assert layer.routing.kept.tolist() == [[True, True]] * 2 + [[False, False]] * 6
    assert load(layer.routing).dropped == pytest.approx(12 / 16)
    assert (out[2:] == 0).all()  # what is left is the residual stream
    assert (out[:2] != 0).all()
    torch.testing.assert_close(out[:2], token_by_token(layer, x[:2]))


def test_first_choices_come_before_second_ones() -> None:
    router = Router(2, MoEConfig(2, 2, 4, capacity_factor=0.75))
    with torch.no_grad():
        router.weight.copy_(torch.eye(2))
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # room for three of eight choices each

    assert router(x).kept.tolist() == [[True, True], [True, False], [True, True], [True, False]]


@pytest.mark.parametrize(("experts", "top_k"), [(4, 0), (4, 5)])
def test_impossible_choices_are_refused(experts: int, top_k: int) -> None:
    with pytest.raises(ModelError, match=f"cannot choose {top_k} of {experts}"):
        MoEConfig(experts, top_k, 8)


def test_another_affinity_is_refused() -> None:
    with pytest.raises(ModelError, match="'tanh' is not one of softmax, sigmoid"):
        MoEConfig(4, 2, 8, affinity="tanh")


def load_transformers(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(f"transformers.models.{module}")


def copy_experts(layer: MixtureOfExperts, block: Any) -> None:
    with torch.no_grad():
        block.gate.weight.copy_(layer.router.weight)
        for number, expert in enumerate(layer.experts):
            gate, up, down = expert.parameters()
            block.experts.gate_up_proj[number] = torch.cat((gate, up))
            block.experts.down_proj[number] = down


@pytest.mark.slow
def test_it_is_mixtrals_block() -> None:
    mixtral = load_transformers("mixtral.modeling_mixtral")
    config = mixtral.MixtralConfig(
        hidden_size=16, intermediate_size=24, num_local_experts=8, num_experts_per_tok=2, experts_implementation="eager"
    )
    layer, block = mixture(), mixtral.MixtralSparseMoeBlock(config).eval()
    copy_experts(layer, block)
    x = 3 * torch.randn(2, 30, 16)
    found = layer(x)

    torch.testing.assert_close(found, block(x), rtol=1e-5, atol=1e-5)
    theirs = mixtral.load_balancing_loss_func((layer.routing.logits,), 8, 2)
    torch.testing.assert_close(balancing_loss(layer.routing), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_it_is_deepseeks_router_and_layer() -> None:
    deepseek = load_transformers("deepseek_v3.modeling_deepseek_v3")
    config = deepseek.DeepseekV3Config(
        hidden_size=16,
        moe_intermediate_size=24,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        routed_scaling_factor=1.0,
        experts_implementation="eager",
    )
    layer, block = mixture(affinity="sigmoid", num_shared=1), deepseek.DeepseekV3MoE(config).eval()
    copy_experts(layer, block)
    block.shared_experts.load_state_dict(layer.shared[0].state_dict())
    layer.router.bias.normal_(0.0, 0.3)
    block.gate.e_score_correction_bias.copy_(layer.router.bias)
    x = torch.randn(2, 30, 16)

    torch.testing.assert_close(layer(x), block(x), rtol=1e-5, atol=1e-5)
    _, weights, experts = block.gate(x.view(-1, 16))
    order = experts.sort(-1)
    ours = layer.routing.experts.sort(-1)
    assert torch.equal(ours.values, order.values)
    torch.testing.assert_close(layer.routing.weights.gather(1, ours.indices), weights.gather(1, order.indices))
