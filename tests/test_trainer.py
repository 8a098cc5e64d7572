"""The trainer: packs, freezing, exact resume."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ebm_core.trainer as trainer_module
from ebm_core import checkpoint, train, train_members
from ebm_core.checkpoint import CheckpointWarning
from ebm_core.config import TrainConfig, make_config
from ebm_core.data import Gmm, Samples, positive_samples
from ebm_core.errors import CheckpointError, ConfigError, EnergyError
from ebm_core.learning import difference, learn
from ebm_core.trainer import Trainer

TINY = make_config(
    {
        "data": "gmm",
        "network": {"name": "toy", "widths": [16, 16]},
        "epsilon": 0.1,
        "eps_data_ratio": 1.0,
        "gamma_0": 0.02,
        "gamma_start": 0.05,
        "anneal_updates": 20,
        "langevin_steps": 6,
        "batch_size": 12,
        "bank_size": 30,
        "bank_start": "gaussian",
        "updates": 60,
        "window": 20,
        "report_interval": 10,
        "checkpoint_interval": 15,
        "device": "cpu",
    }
)
IMAGES = TINY.with_(data="digits", network={"name": "vanilla", "width": 4}, epsilon=0.08)
AXES = [
    {"epsilon": 0.05, "eps_data_ratio": 0.5, "gamma_0": 0.01, "seed": 3},
    {"epsilon": 0.1, "eps_data_ratio": 2.0, "gamma_start": 0.1, "anneal_updates": 4, "seed": 4},
    {"epsilon": 0.2, "anneal_updates": 0, "gamma_start": None, "seed": 5},
]


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("base", [TINY, IMAGES], ids=["closed_form", "vmap"])
def test_members_learn_in_a_pack_what_they_learn_alone(base: TrainConfig, optimizer: str) -> None:
    configs = [base.with_(precision="float64", optimizer=optimizer, **axes) for axes in AXES]
    pack = Trainer(configs)
    pack.run(5)
    for member, config in enumerate(configs):
        alone = Trainer([config])
        alone.run(5)
        np.testing.assert_allclose(pack.d(member), alone.d(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(pack.r(member), alone.r(), rtol=1e-9, atol=0)
        for name, value in alone.parameters.items():
            torch.testing.assert_close(
                pack.parameters[name][member], value[0], rtol=1e-9, atol=1e-11
            )


def test_members_with_other_constants_learn_something_else() -> None:
    configs = [TINY.with_(precision="float64", **axes) for axes in AXES]
    pack = Trainer(configs)
    pack.run(5)
    for member, other in pairwise(range(3)):
        assert not np.allclose(pack.d(member), pack.d(other), rtol=1e-3)


def test_the_same_pack_repeats_bit_for_bit() -> None:
    configs = [TINY.with_(**axes) for axes in AXES]
    first, second = train_members(configs), train_members(configs)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.d, b.d)
        assert np.array_equal(a.r, b.r)
        assert same_weights(a.energy, b.energy)
        assert torch.equal(a.chains, b.chains)


def test_another_seed_gives_another_training() -> None:
    a, b = train_members([TINY, TINY.with_(seed=1)])
    assert not np.array_equal(a.d, b.d)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "adam", "gamma_0": 0.001, "gamma_start": None, "anneal_updates": 0},
        {"reinit_share": 0.3},
        {"chain_start": "uniform"},
        {"chain_start": "data"},
    ],
    ids=["sgd", "adam", "reinit", "uniform", "data"],
)
def test_n_updates_equal_k_and_the_rest_after_a_checkpoint(tmp_path, change) -> None:
    configs = [TINY.with_(**change), TINY.with_(**change, epsilon=0.2, seed=9)]
    whole = Trainer(configs)
    whole.run(60)
    begun = Trainer(configs)
    begun.run(17)
    resumed = Trainer.resume(begun.save(tmp_path / "checkpoint.pt"))
    resumed.run(60)
    for a, b in zip(whole.results(), resumed.results(), strict=True):
        assert np.array_equal(a.d, b.d)
        assert np.array_equal(a.r, b.r)
        assert np.array_equal(a.r_rms, b.r_rms)
        assert np.array_equal(a.restlessness, b.restlessness, equal_nan=True)
        assert np.flatnonzero(~np.isnan(b.restlessness)).tolist() == [25, 50]
        assert same_weights(a.energy, b.energy)
        assert torch.equal(a.chains, b.chains)
        assert a.assessment == b.assessment or str(a.assessment) == str(b.assessment)


def test_a_resume_that_forgets_the_bank_is_found_out(tmp_path) -> None:
    whole, begun = Trainer([TINY]), Trainer([TINY])
    whole.run(30)
    begun.run(17)
    state = begun.state()
    state["states"] = torch.zeros_like(state["states"])
    resumed = Trainer([TINY])
    resumed.load_state(state)
    resumed.run(13)
    assert not np.array_equal(whole.d(), resumed.d())


def test_a_state_stays_what_it_was_when_trainers_go_on_from_it() -> None:
    begun = Trainer([TINY])
    begun.run(17)
    state = begun.state()
    found = []
    for _ in range(2):
        trainer = Trainer([TINY])
        trainer.load_state(state)
        trainer.run(13)
        found.append(trainer.d())
    begun.run(13)
    assert np.array_equal(found[0], begun.d())
    assert np.array_equal(found[1], begun.d())


def test_a_checkpoint_that_lacks_something_is_refused(tmp_path) -> None:
    whole = Trainer([TINY]).state()
    assert set(whole) == set(trainer_module.STATE_KEYS)
    for key in whole:
        part = {name: value for name, value in whole.items() if name != key}
        with pytest.raises(CheckpointError, match=rf"part\.pt: .* it lacks {key}$"):
            Trainer.resume(checkpoint.save(part, tmp_path / "part.pt"))


def test_how_a_run_is_cut_into_chunks_does_not_matter() -> None:
    a, b = Trainer([TINY]), Trainer([TINY])
    a.run(60)
    for _ in range(12):
        b.run(5)
    assert np.array_equal(a.d(), b.d())


def test_a_member_can_leave_its_pack_and_go_on_alone(tmp_path) -> None:
    configs = [TINY.with_(precision="float64", **axes) for axes in AXES]
    pack = Trainer(configs)
    pack.run(10)
    alone = Trainer.resume(pack.save(tmp_path / "member.pt", member=1))
    assert alone.configs == configs[1:2]
    alone.run(5)
    pack.run(5)
    np.testing.assert_allclose(alone.d(), pack.d(1), rtol=1e-9)


def test_a_diverging_member_is_frozen_and_leaves_its_neighbour_alone() -> None:
    wild = {"gamma_0": 1e4, "gamma_start": None, "anneal_updates": 0}
    healthy, lost = train_members([TINY, TINY.with_(**wild)])
    beside_a_healthy_one, _ = train_members([TINY, TINY.with_(seed=7)])
    assert np.array_equal(healthy.d, beside_a_healthy_one.d)
    assert healthy.status == "finished"
    assert lost.status == "stopped_early"
    assert lost.assessment.verdict == "diverged"
    assert len(lost.d) < 60
    assert lost.cause.endswith(f"at update {len(lost.d) - 1}")
    assert all(p.isfinite().all() for p in lost.energy.parameters())
    assert lost.chains.isfinite().all()


def test_training_ends_when_no_member_is_left() -> None:
    trainer = Trainer([TINY.with_(gamma_0=1e4, gamma_start=None, anneal_updates=0)])
    trainer.run(60)
    assert trainer.finished
    assert trainer.update < 60


def test_a_collapsing_member_is_stopped(monkeypatch) -> None:
    seen: list[int] = []

    def collapse_update(d, dimensions, since=None):
        assert dimensions == 2
        if since is not None:
            seen.append(len(d))
            assert since == len(d) - 100
        return 150 if len(d) == 200 else None

    monkeypatch.setattr(trainer_module, "collapse_update", collapse_update)
    trainer = Trainer([TINY.with_(updates=400)])
    trainer.run(400)
    result = trainer.result()
    assert seen == [100, 200]
    assert trainer.update == 200
    assert result.status == "stopped_early"
    assert result.cause == "d runs to minus infinity at update 150"
    assert len(result.d) == 151


def test_no_learning_rate_no_learning() -> None:
    trainer = Trainer([TINY.with_(gamma_0=0.0, gamma_start=None, anneal_updates=0)])
    before = {name: value.clone() for name, value in trainer.parameters.items()}
    trainer.run(30)
    # but for the rounding of sums over other batches
    assert trainer.result().restlessness[25] < 1e-9
    assert all(torch.equal(before[name], value) for name, value in trainer.parameters.items())
    assert np.ptp(trainer.d()) > 0


def test_a_faster_model_is_more_restless() -> None:
    rates = (0.0003, 0.003)
    trainer = Trainer(
        [TINY.with_(gamma_0=g, gamma_start=None, anneal_updates=0, updates=120) for g in rates]
    )
    trainer.run(120)
    slow, fast = (np.nanmean(result.restlessness) for result in trainer.results())
    assert 0 < 4 * slow < fast


def test_the_spread_of_chains_is_told_against_that_of_the_noised_data() -> None:
    trainer = Trainer([TINY])
    trainer.states = 2 * positive_samples(
        trainer.dataset, 4_096, TINY.data_epsilon, torch.Generator().manual_seed(5), torch.float32
    ).unsqueeze(0)
    found = trainer.result().assessment.evidence["chain_spread"]
    assert found == pytest.approx(4, rel=0.1)


def test_the_parameter_change_does_not_depend_on_epsilon() -> None:
    scales = [0.001, 0.01, 0.1, 1.0]
    trainer = Trainer([TINY.with_(epsilon=e, gamma_start=None, anneal_updates=0) for e in scales])
    rng = torch.Generator().manual_seed(0)
    positive = torch.randn(1, 40, 2, generator=rng).expand(4, -1, -1)
    negative = torch.randn(1, 40, 2, generator=rng).expand(4, -1, -1) * 2
    parameters, epsilon = trainer.parameters, trainer.epsilon
    d, gradients, _ = difference(trainer.engine, parameters, positive, negative, epsilon)
    rates = trainer.learning_rates(0).to(trainer.dtype)
    changed, _ = learn(parameters, {}, gradients, rates, epsilon, step=1)
    for name, value in changed.items():
        change = value - trainer.parameters[name]
        for member in range(1, 4):
            torch.testing.assert_close(change[member], change[0], rtol=1e-5, atol=1e-9)
    # d itself does depend on it, so that a rate without epsilon**2 / 2 would be found out
    torch.testing.assert_close(d[0] / d[3], torch.tensor(1e6), rtol=1e-4, atol=0)


def test_progress_is_reported_and_can_stop_a_training() -> None:
    updates: list[int] = []

    def watch(trainer: Trainer) -> bool:
        updates.append(trainer.update)
        return trainer.update >= 30

    result = train(TINY, watch)
    assert updates == [10, 20, 30]
    assert len(result.d) == 30
    assert result.status == "stopped_early"
    assert result.cause == "stopped after 30 of 60 updates"
    assert result.assessment.verdict == "unassessed"


def test_checkpoints_are_written_on_the_way_and_resumed_from(tmp_path) -> None:
    path = tmp_path / "checkpoint.pt"
    seen: list[int] = []

    def watch(trainer: Trainer) -> bool:
        seen.append(trainer.update if path.exists() else -trainer.update)
        return trainer.update == 20

    train(TINY, watch, checkpoint_to=path)
    assert seen == [-10, 20]
    assert np.array_equal(train(TINY, resume_from=path).d, train(TINY).d)


def test_a_damaged_checkpoint_costs_the_updates_since_the_one_before(tmp_path) -> None:
    path = tmp_path / "checkpoint.pt"
    train(TINY, lambda trainer: trainer.update == 40, checkpoint_to=path)
    before = checkpoint.previous(path)
    assert [checkpoint.load(each)["update"] for each in (before, path)] == [30, 40]
    path.write_bytes(path.read_bytes()[:-200])
    told = rf"{path}: .+; the one before it is used, {before}"
    whole = train(TINY).d
    with pytest.warns(CheckpointWarning, match=told):
        trainer = Trainer.resume(path)
    assert trainer.update == 30
    with pytest.warns(CheckpointWarning, match=told):
        resumed = train(TINY, resume_from=path, checkpoint_to=path)
    assert np.array_equal(resumed.d, whole)
    # the damaged one is gone, and was never kept
    assert [checkpoint.load(each)["update"] for each in (before, path)] == [45, 60]
    for each in (before, path):
        each.write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=rf"{path}: .+; nor can the one before .+ {before}: "
    ):
        Trainer.resume(path)


def test_a_checkpoint_of_another_training_is_refused(tmp_path) -> None:
    trainer = Trainer([TINY])
    path = trainer.save(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"member 0 has epsilon=0\.1 there, 0\.3 here"):
        train(TINY.with_(epsilon=0.3), resume_from=path)
    with pytest.raises(CheckpointError, match="1 members there, 2 here"):
        train_members([TINY, TINY], resume_from=path)


OTHER_DATA = "the checkpoint belongs to another data set: "


def test_a_checkpoint_of_other_data_is_refused(tmp_path) -> None:
    path = Trainer([TINY]).save(tmp_path / "checkpoint.pt")
    assert Trainer.resume(path, dataset=Gmm(sd=TINY.data.sd)).update == 0
    told = rf"{OTHER_DATA}samples of a law, of shape \(2,\) there and here, but other ones"
    with pytest.raises(CheckpointError, match=told):
        Trainer.resume(path, dataset=Gmm(sd=0.2))
    with pytest.raises(CheckpointError, match=rf"{OTHER_DATA}.+ there, 5 samples, of shape"):
        train(TINY, resume_from=path, dataset=Samples(torch.ones(5, 2)))


def test_a_checkpoint_of_a_data_file_that_changed_is_refused(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    file = tmp_path / "data.npy"
    np.save(file, x)
    config = TINY.with_(data={"name": "array", "path": str(file)})
    path = Trainer([config]).save(tmp_path / "checkpoint.pt")
    assert Trainer.resume(path).update == 0
    np.save(file, x[:40])
    with pytest.raises(CheckpointError, match=rf"{OTHER_DATA}50 samples.* there, 40 samples"):
        Trainer.resume(path)
    x[7, 1] += 0.01
    np.save(file, x)
    with pytest.raises(CheckpointError, match=rf"{OTHER_DATA}50 samples.* but other ones$"):
        train(config, resume_from=path)


class Bowl(nn.Module):
    """A user's own energy, with a parameter of no dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.01))
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.square().sum(-1) + self.layer(x).squeeze(-1)


def test_a_users_own_network_and_data_are_trained() -> None:
    rng = torch.Generator().manual_seed(0)
    data = Samples(torch.randn(50, 3, generator=rng))
    array = {"name": "array", "path": "not/there.npy"}
    config = TINY.with_(data=array, network="mlp", gamma_0=1e-4, gamma_start=1e-4)
    module = Bowl()
    before = [p.detach().clone() for p in module.parameters()]
    result = train(config, energy=module, dataset=data)
    assert result.status == "finished"
    assert isinstance(result.energy, Bowl)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert not same_weights(result.energy, module)
    several = train_members([config, config.with_(seed=1)], energy=Bowl, dataset=data)
    assert not same_weights(several[0].energy, several[1].energy)


def test_batch_normalisation_is_refused_by_name() -> None:
    energy = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 1), nn.Flatten(0))
    with pytest.raises(EnergyError, match="of BatchNorm1d changes in a forward pass"):
        train(TINY, energy=energy)


def test_training_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    train(TINY)
    assert torch.equal(before, torch.get_rng_state())


def test_members_of_different_networks_are_no_pack() -> None:
    with pytest.raises(ConfigError, match="must equal that of member 0"):
        train_members([TINY, TINY.with_(network="toy")])


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        assert Trainer([TINY.with_(device="cuda")]).device.type == "cuda"
        return
    with pytest.raises(ConfigError, match="must be auto or cpu where there is no GPU"):
        Trainer([TINY.with_(device="cuda")])


def test_tf32_is_refused_where_there_is_no_gpu() -> None:
    with pytest.raises(ConfigError, match="precision: must be float32, float64 or bfloat16 where"):
        Trainer([TINY.with_(precision="tf32", device="cpu")])


def test_reduced_precision_resumes_exactly(tmp_path) -> None:
    config = TINY.with_(precision="bfloat16")
    whole, begun = Trainer([config]), Trainer([config])
    whole.run(20)
    begun.run(12)
    resumed = Trainer.resume(begun.save(tmp_path / "c.pt"))
    resumed.run(8)
    assert np.array_equal(whole.d(), resumed.d())
    full = Trainer([TINY])
    full.run(20)
    assert whole.states.dtype == full.states.dtype == torch.float32
    assert not np.array_equal(whole.d(), full.d())


def test_golden_trace() -> None:
    trainer = Trainer([TINY.with_(precision="float64")])
    trainer.run(10)
    np.testing.assert_allclose(trainer.d(), GOLDEN_D, rtol=1e-4)
    np.testing.assert_allclose(trainer.r(), GOLDEN_R, rtol=1e-4)


GOLDEN_D = [
    0.323312,
    6.83338,
    1.77915,
    7.8832,
    4.80882,
    3.60957,
    2.51731,
    2.49158,
    3.28776,
    1.8335,
]
GOLDEN_R = [
    0.0589569,
    0.0543867,
    0.0515029,
    0.0449635,
    0.0375511,
    0.0434738,
    0.0366245,
    0.0367998,
    0.0388936,
    0.0302123,
]
