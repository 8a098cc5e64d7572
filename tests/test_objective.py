"""The objective d, and parameter updates against closed forms and torch's own Adam."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ebm_core.objective import (
    Parameters,
    adam_state,
    adam_step,
    energy_difference,
    sgd_step,
)

EPSILONS = torch.logspace(-3, 0, 7)


def test_energy_difference_of_known_numbers() -> None:
    positive = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    negative = torch.tensor([[1.0, 0.0, 2.0], [3.0, 3.0, 3.0]])
    d = energy_difference(positive, negative, torch.tensor([0.5, 2.0]))
    # data above the chains: positive, contracting; below: negative, expanding
    assert d.tolist() == [8.0, -1.5]


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0)])
def test_an_empty_batch_is_refused(n: int, m: int) -> None:
    with pytest.raises(ValueError, match="a batch of samples is empty"):
        energy_difference(torch.zeros(1, n), torch.zeros(1, m), torch.ones(1))


# -- (3A), (4A): the size of an SGD step does not depend on epsilon ----------------------------


def network(members: int) -> Parameters:
    """The same small network for every member."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"weight": (16, 5), "bias": (16,), "output": (16,)}
    one = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return {name: value.expand(members, *value.shape).clone() for name, value in one.items()}


def energies(parameters: Parameters, x: Tensor) -> Tensor:
    hidden = torch.tanh(x @ parameters["weight"].mT + parameters["bias"].unsqueeze(1))
    return (hidden @ parameters["output"].unsqueeze(-1)).squeeze(-1)


def samples() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(2, 12, 5, generator=rng)
    members = len(EPSILONS)
    return positive.expand(members, -1, -1), (negative + 0.5).expand(members, -1, -1)


def gradients_of(loss: Callable[[Parameters], Tensor], parameters: Parameters) -> Parameters:
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    slopes = torch.autograd.grad(loss(leaves).sum(), list(leaves.values()))
    return dict(zip(leaves, slopes, strict=True))


def of_d(leaves: Parameters) -> Tensor:
    positive, negative = samples()
    return energy_difference(energies(leaves, positive), energies(leaves, negative), EPSILONS)


def of_the_difference(leaves: Parameters) -> Tensor:
    positive, negative = samples()
    return energies(leaves, positive).mean(1) - energies(leaves, negative).mean(1)


def spread_over_epsilon(loss: Callable[[Parameters], Tensor], rate: Tensor) -> float:
    """Largest relative difference between a member's parameter change and that of the first."""
    before = network(len(EPSILONS))
    after = sgd_step(before, gradients_of(loss, before), rate)
    change = torch.cat([(after[name] - before[name]).flatten(1) for name in before], dim=1)
    assert change.norm(dim=1).min() > 0
    return float(((change - change[0]).norm(dim=1) / change[0].norm()).max())


def test_sgd_change_is_independent_of_epsilon() -> None:
    gamma_0 = torch.full_like(EPSILONS, 0.2)
    gamma = EPSILONS.square() / 2 * gamma_0
    assert spread_over_epsilon(of_d, gamma) < 1e-5
    assert spread_over_epsilon(of_the_difference, gamma_0) < 1e-5


def test_sgd_change_depends_on_epsilon_without_the_factor() -> None:
    assert spread_over_epsilon(of_d, torch.full_like(EPSILONS, 0.2)) > 0.9


def test_both_ways_to_the_step_agree() -> None:
    before = network(len(EPSILONS))
    gamma_0 = torch.full_like(EPSILONS, 0.2)
    gamma = EPSILONS.square() / 2 * gamma_0
    scaled = sgd_step(before, gradients_of(of_d, before), gamma)
    direct = sgd_step(before, gradients_of(of_the_difference, before), gamma_0)
    for name in before:
        torch.testing.assert_close(scaled[name], direct[name], rtol=1e-5, atol=1e-6)


def test_sgd_descends_and_leaves_its_input_alone() -> None:
    before = {"w": torch.tensor([[1.0, 2.0], [1.0, 2.0]])}
    kept = before["w"].clone()
    after = sgd_step(before, {"w": torch.ones(2, 2)}, torch.tensor([0.5, 0.0]))
    assert after["w"].tolist() == [[0.5, 1.5], [1.0, 2.0]]
    assert torch.equal(before["w"], kept)


# -- Adam --------------------------------------------------------------------------------------


def noisy_gradients(steps: int, shape: tuple[int, ...]) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    scales = torch.logspace(-6, 3, steps, dtype=torch.float64)
    return torch.randn(steps, *shape, generator=rng, dtype=torch.float64) * scales.reshape(
        -1, *[1] * len(shape)
    )


def torch_adam(start: Tensor, gradients: Tensor, rate: float) -> Tensor:
    leaf = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=rate)
    for gradient in gradients:
        leaf.grad = gradient.clone()
        optimizer.step()
    return leaf.detach()


def our_adam(start: Tensor, gradients: Tensor, rate: Tensor, bias_correction: int = 1) -> Tensor:
    parameters, state = {"w": start}, adam_state({"w": start})
    for step, gradient in enumerate(gradients, start=1):
        parameters, state = adam_step(
            parameters, {"w": gradient}, rate, state, step * bias_correction
        )
    return parameters["w"]


@pytest.mark.parametrize("rates", [[0.01], [0.01, 0.0, 1.0]], ids=["alone", "pack"])
def test_adam_is_torchs_adam_for_every_member(rates: list[float]) -> None:
    members = len(rates)
    start = torch.linspace(-1, 1, 12 * members, dtype=torch.float64).reshape(members, 3, 4)
    gradients = noisy_gradients(40, (members, 3, 4))
    rate = torch.tensor(rates, dtype=torch.float64)
    ours = our_adam(start, gradients, rate)
    for member, value in enumerate(rates):
        oracle = torch_adam(start[member], gradients[:, member], value)
        torch.testing.assert_close(ours[member], oracle, rtol=1e-12, atol=1e-14)
    # a wrong step count, and so a wrong bias correction, is seen
    assert not torch.allclose(our_adam(start, gradients, rate, 10), ours, rtol=1e-3)


def test_adam_leaves_its_input_alone() -> None:
    parameters = {"w": torch.ones(1, 2)}
    state = adam_state(parameters)
    adam_step(parameters, {"w": torch.ones(1, 2)}, torch.tensor([0.1]), state, 1)
    assert torch.equal(parameters["w"], torch.ones(1, 2))
    assert not state["first"]["w"].any()
    assert not state["second"]["w"].any()


def test_a_member_that_is_not_finite_touches_no_other() -> None:
    gradients = noisy_gradients(5, (2, 3))
    rate = torch.full((2,), 0.1, dtype=torch.float64)
    start = torch.zeros(2, 3, dtype=torch.float64)
    sound = our_adam(start, gradients, rate)
    gradients[2, 0] = torch.nan
    struck = our_adam(start, gradients, rate)
    assert struck[0].isnan().all()
    assert torch.equal(struck[1], sound[1])


def test_the_first_step_is_number_one() -> None:
    parameters = {"w": torch.ones(1, 2)}
    with pytest.raises(ValueError, match="`step >= 1` must hold, but got step=0"):
        adam_step(parameters, parameters, torch.ones(1), adam_state(parameters), 0)
