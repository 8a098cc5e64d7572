"""The ledger: what is handed out, what is kept, and how a study goes on."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from study_file import load, study_file  # noqa: F401

from study.assignment import Unit
from study.failures import Kind, Next
from study.ledger import Ledger, LedgerError, mean_of
from study.samplers import fixed_points, startup_trials
from study.spec import StudySpec
from study.table import Row

pytestmark = pytest.mark.usefixtures("study_file")


def open_ledger(spec: StudySpec) -> Ledger:
    return Ledger(spec, Path("studies/sweep"))


def outcome(unit: Unit, **fields: object) -> Row:
    values: Row = {
        "trial": unit.trial,
        "seed": unit.seed,
        "status": "finished",
        "verdict": "convergent",
        "reasons": "",
        "oscillation": "weak",
        "long_run": "holds",
        "convergence_score": unit.config["epsilon"],
        "convergence_margin": 0.1,
        "cause": None,
    }
    return {**values, **fields}  # type: ignore[dict-item]


def drain(ledger: Ledger, members: int = 1, **fields: object) -> list[list[Unit]]:
    packs = []
    while pack := ledger.next_pack(members):
        packs.append(pack)
        for unit in pack:
            ledger.record(unit, outcome(unit, **fields))
    return packs


@pytest.mark.parametrize("method", ["random", "sobol", "tpe", "gp", "nsga2", "boundary"])
def test_every_configuration_is_handed_out_once_inside_its_space(method: str) -> None:
    ledger = open_ledger(load(method=method, trials="6"))
    packs = drain(ledger)
    assert [unit.trial for pack in packs for unit in pack] == list(range(6))
    epsilons = [pack[0].config["epsilon"] for pack in packs]
    assert all(0.01 <= epsilon <= 0.4 for epsilon in epsilons)
    assert len(set(epsilons[:3])) == 3  # an adaptive method may ask for its best point again
    assert ledger.complete
    assert [t.state for t in ledger.trials()] == [TrialState.COMPLETE] * 6
    assert [t.value for t in ledger.trials()] == epsilons


def test_a_grid_is_handed_out_in_order() -> None:
    grid = "{distribution: grid, values: [0.3, 0.1, 0.2]}"
    ledger = open_ledger(load(method="grid", parameters__epsilon=grid, trials="3"))
    assert [pack[0].point for pack in drain(ledger)] == [
        {"epsilon": 0.3},
        {"epsilon": 0.1},
        {"epsilon": 0.2},
    ]


def test_first_points_come_first_and_startup_is_spread() -> None:
    spec = load(first_points="[{epsilon: 0.08}]", trials="16")
    fixed = fixed_points(spec)
    assert startup_trials(spec) == 8
    assert fixed(0) == {"epsilon": 0.08}
    assert fixed(7) is not None
    assert fixed(8) is None


def test_seeds_are_repeats_of_one_configuration() -> None:
    ledger = open_ledger(load(seeds="3", trials="2"))
    packs = drain(ledger, members=2)
    assert [[(u.trial, u.seed) for u in pack] for pack in packs] == [
        [(0, 0), (0, 1)],
        [(0, 2), (1, 0)],
        [(1, 1), (1, 2)],
    ]
    units = [unit for pack in packs for unit in pack]
    assert [unit.config["seed"] for unit in units] == [0, 1, 2, 0, 1, 2]
    assert {unit.config["epsilon"] for unit in units[:3]} == {units[0].config["epsilon"]}


def test_optuna_is_told_the_mean_once_all_seeds_are_in() -> None:
    ledger = open_ledger(load(seeds="2", trials="1"))
    first, second = ledger.next_pack(2)
    ledger.record(first, outcome(first, convergence_score=0.8))
    assert ledger.trials()[0].state == TrialState.RUNNING
    diverged = outcome(
        second, verdict="diverged", convergence_score=0.0, oscillation="undetermined"
    )
    ledger.record(second, diverged)
    trial = ledger.trials()[0]
    assert trial.value == pytest.approx(0.4)
    assert trial.user_attrs["verdict"] == "convergent; diverged"
    assert trial.user_attrs["oscillation"] == "weak; undetermined"


def test_several_metrics_and_constraints() -> None:
    metrics = "[{name: convergence_score, goal: maximize}, {name: data_epsilon, goal: minimize}]"
    ledger = open_ledger(load(metric=metrics, constraints='["diverged == 0"]', trials="2"))
    (good,), (bad,) = ledger.next_pack(1), ledger.next_pack(1)
    ledger.record(good, outcome(good, convergence_score=0.5, data_epsilon=0.1))
    ledger.record(bad, outcome(bad, verdict="diverged", convergence_score=0.0, data_epsilon=0.2))
    trials = ledger.trials()
    assert [t.values for t in trials] == [[0.5, 0.1], [0.0, 0.2]]
    assert ledger.study.directions == [
        optuna.study.StudyDirection.MAXIMIZE,
        optuna.study.StudyDirection.MINIMIZE,
    ]
    assert [t.number for t in ledger.study.best_trials] == [0]
    violations = [v for t in trials for k, v in t.system_attrs.items() if "diverged" in k]
    assert violations == [0.0, 1.0]


@pytest.mark.parametrize("method", ["tpe", "gp", "nsga2", "boundary"])
def test_samplers_heed_constraints_they_were_told(method: str) -> None:
    ledger = open_ledger(load(method=method, constraints='["epsilon <= 0.05"]', trials="8"))
    while pack := ledger.next_pack(1):
        (unit,) = pack
        ledger.record(unit, outcome(unit, epsilon=unit.config["epsilon"]))
    assert ledger.complete


def test_a_training_without_a_value_fails_in_optuna_and_is_kept_all_the_same() -> None:
    ledger = open_ledger(load(trials="1"))
    (unit,) = ledger.next_pack(1)
    ledger.record(unit, outcome(unit, verdict="unassessed", convergence_score=None))
    assert ledger.trials()[0].state == TrialState.FAIL
    assert ledger.trials()[0].user_attrs["verdict"] == "unassessed"
    assert ledger.complete
    assert ledger.rows()[0]["verdict"] == "unassessed"


def test_rows_know_their_mlflow_run() -> None:
    ledger = open_ledger(load(trials="1"))
    (unit,) = ledger.next_pack(1)
    ledger.record(unit, outcome(unit))
    assert ledger.rows()[0]["mlflow_run_id"] is None
    # MLflow may be reached only after the end
    ledger.set_run(unit, "abc")
    assert ledger.rows()[0]["mlflow_run_id"] == "abc"
    assert open_ledger(load(trials="1")).rows()[0]["mlflow_run_id"] == "abc"


def test_a_row_is_kept_once() -> None:
    ledger = open_ledger(load(trials="1", seeds="2"))
    first, _ = ledger.next_pack(2)
    ledger.record(first, outcome(first, convergence_score=0.8))
    ledger.record(first, outcome(first, convergence_score=0.1))
    assert [row["convergence_score"] for row in ledger.rows()] == [0.8]


@pytest.mark.parametrize("method", ["sobol", "tpe", "gp"])
def test_an_interrupted_study_goes_on_as_if_never_stopped(method: str) -> None:
    spec = load(method=method, trials="8")
    whole = [pack[0].point for pack in drain(Ledger(spec, Path("studies/whole")))]
    seen = []
    for _ in range(8):  # a new driver for every configuration
        (unit,) = (ledger := open_ledger(spec)).next_pack(1)
        seen.append(unit.point)
        ledger.record(unit, outcome(unit))
    assert seen == whole


def test_interrupted_packs_are_handed_out_again_as_they_were() -> None:
    spec = load(seeds="2", trials="3")
    ledger = open_ledger(spec)
    first, second = ledger.next_pack(3), ledger.next_pack(3)
    for unit in first[:2]:  # the driver dies while it records a pack
        ledger.record(unit, outcome(unit))
    again = open_ledger(spec)
    assert again.packs_left(3) == 2
    assert again.next_pack(1) == first
    assert again.next_pack(1) == second
    assert again.next_pack(1) == []
    for unit in [*first, *second]:
        again.record(unit, outcome(unit))
    assert again.complete


def test_units_that_were_asked_for_and_not_issued_are_not_lost() -> None:
    spec = load(seeds="3", trials="2")
    issued = open_ledger(spec).next_pack(2)
    again = open_ledger(spec)
    packs = drain(again, members=2)
    assert packs[0] == issued
    assert [(u.trial, u.seed) for u in packs[1]] == [(0, 2), (1, 0)]
    assert again.complete


def test_packs_left_counts_what_will_be_handed_out() -> None:
    ledger = open_ledger(load(seeds="3", trials="5"))
    for left in (4, 3, 2, 1, 0):
        assert ledger.packs_left(4) == left
        ledger.next_pack(4)


def test_more_trials_can_be_asked_for_later() -> None:
    drain(open_ledger(load(trials="2")))
    ledger = open_ledger(load(trials="5"))
    assert not ledger.complete
    assert len(drain(ledger)) == 3


def test_a_changed_study_is_refused_with_the_difference() -> None:
    open_ledger(load())
    with pytest.raises(LedgerError, match=r"base\.updates: 2000 there, 3000 here"):
        open_ledger(load(base__updates="3000"))
    with pytest.raises(LedgerError, match=r"parameters\.epsilon"):
        open_ledger(load(parameters__epsilon__max="0.3"))
    # one MLflow run a training, ever: where it is cannot change on the way
    with pytest.raises(LedgerError, match=r"tracking\.experiment: 'sweep' there, 'other' here"):
        open_ledger(load(tracking__experiment="other"))
    open_ledger(load(trials="9", resources="{cpus_per_trial: 2, retries: 5}"))


def test_the_mean_leaves_out_what_is_missing() -> None:
    rows: list[Row] = [{"kl": 1.0, "verdict": "convergent"}, {"kl": None, "verdict": "diverged"}]
    assert mean_of(rows, "kl") == 1.0
    assert mean_of(rows, "diverged") == 0.5
    assert mean_of(rows[1:], "kl") is None


def test_a_configuration_that_optuna_was_not_told_of_is_told_on_return(monkeypatch) -> None:
    spec = load(trials="1", constraints='["diverged == 0"]')
    ledger = open_ledger(spec)
    (unit,) = ledger.next_pack(1)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_tell", lambda *_: None)
        ledger.record(unit, outcome(unit))
    assert ledger.trials()[0].state == TrialState.RUNNING
    again = open_ledger(spec)
    assert again.trials()[0].state == TrialState.COMPLETE
    assert again.next_pack(1) == []


WRITES = (
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_study_user_attr",
)


def _cut_off(after: int, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The driver dies at a write to the storage, this many writes from now."""
    left = [after]

    def dying(write: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return write(*arguments, **options)  # type: ignore[operator]

        return call

    storage = optuna.storages.RDBStorage
    for name in WRITES:
        monkeypatch.setattr(storage, name, dying(getattr(storage, name)))
    return monkeypatch


TWO = "{epsilon: {distribution: uniform, min: 0.1, max: 0.4}, langevin_steps: {distribution: \
randint, min: 10, max: 50}, optimizer: {distribution: choice, values: [sgd, adam]}}"


@pytest.mark.parametrize(("method", "first"), [("sobol", 0), ("tpe", 1)])
def test_a_study_may_die_at_any_write_and_goes_on_as_if_it_had_not(
    method: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load(method=method, trials="3", parameters=TWO, constraints='["r <= 1"]')
    whole = drain(Ledger(spec, Path("studies/whole")), members=2)
    for after in range(first, 90, 2):
        folder = Path(f"studies/{after}")
        with monkeypatch.context() as patch:
            ledger = Ledger(spec, folder)
            _cut_off(after, patch)
            try:
                drain(ledger, members=2)
                died = False
            except KeyboardInterrupt:
                died = True
        again = Ledger(spec, folder)
        drain(again, members=2)
        assert again.complete
        assert [t.state for t in again.trials()] == [TrialState.COMPLETE] * 3
        points = [unit.point for pack in whole for unit in pack]
        assert [t.user_attrs["point"] for t in again.trials()] == points
        packs = [pack.units for pack in again._packs.all()]
        assert packs == [tuple(unit.key for unit in pack) for pack in whole]
        if not died:
            assert after > 20  # there were as many moments to die at
            return
    raise AssertionError("it writes more often than this looks at")


def fail(ledger: Ledger, units: list[Unit], kind: Kind, update: int = 10) -> Next:
    return ledger.failed(units, kind, update)


def test_what_fails_is_retried_so_often_in_a_row_and_then_given_up() -> None:
    spec = load(trials="1", resources="{retries: 2}")
    (unit,) = open_ledger(spec).next_pack(1)
    for _ in range(2):  # by another driver each time
        ledger = open_ledger(spec)
        assert ledger.next_pack(1) == [unit]
        assert fail(ledger, [unit], Kind.ERROR) is Next.RETRY
    ledger = open_ledger(spec)
    assert ledger.next_pack(1) == [unit]
    assert fail(ledger, [unit], Kind.ERROR) is Next.GIVE_UP
    assert ledger.next_pack(1) == []


def test_a_pack_whose_worker_is_lost_goes_on_whole_as_long_as_it_comes_further() -> None:
    ledger = open_ledger(load(trials="2", resources="{retries: 1}"))
    pack = ledger.next_pack(2)
    for update in (10, 20, 30):
        assert fail(ledger, pack, Kind.LOST, update) is Next.RETRY
        assert ledger.next_pack(2) == pack
    assert fail(ledger, pack, Kind.LOST, 30) is Next.SPLIT


def test_halves_are_packs_of_their_own_for_good() -> None:
    spec = load(trials="5", resources="{retries: 0}")
    ledger = open_ledger(spec)
    a, b, c, d = pack = ledger.next_pack(4)
    assert fail(ledger, pack, Kind.MEMORY) is Next.SPLIT
    ledger.split(pack)
    for again in (ledger, open_ledger(spec)):
        assert [again.next_pack(4) for _ in range(2)] == [[a, b], [c, d]]
    assert fail(again, [c, d], Kind.MEMORY) is Next.SPLIT
    again.split([c, d])
    again.record(a, outcome(a)), again.record(b, outcome(b))
    last = open_ledger(spec)
    assert [last.next_pack(1) for _ in range(2)] == [[c], [d]]
    assert fail(last, [c], Kind.MEMORY) is Next.GIVE_UP
    assert [unit.trial for unit in last.next_pack(4)] == [4]


def test_what_is_stopped_early_is_handed_out_to_be_judged_and_told_as_pruned() -> None:
    base = "{preset: digits, updates: 400, window: 100, anneal_updates: 100}"
    stop = "{pruner: successive_halving, grace: 200, interval: 50, reduction: 2}"
    spec = load(trials="3", method="sobol", base=base, early_stop=stop)
    ledger = open_ledger(spec)
    packs = [ledger.next_pack(1) for _ in range(3)]
    stopped = [
        ledger.look(unit, 200, score)
        for (unit,), score in zip(packs, (0.9, 0.8, 0.1), strict=True)
    ]
    assert stopped == [False, True, True]
    (unit,) = packs[2]
    for again in (ledger, open_ledger(spec)):
        assert again.stopped_at(unit) == 200
        assert again.stopped_at(packs[0][0]) is None
    assert [ledger.next_pack(1) for _ in range(3)] == [packs[1], packs[2], []]
    ledger.record(unit, outcome(unit, status="stopped_early", convergence_score=0.1))
    assert ledger.trials()[2].state == TrialState.PRUNED
    assert ledger.trials()[2].value == 0.1
    # a look that is told again, as after an interruption, is no second one
    assert ledger.look(packs[0][0], 200, 0.9) is False


def test_a_study_goes_on_under_another_path_of_its_folder() -> None:
    begun = open_ledger(load())
    (first,) = begun.next_pack(1)
    elsewhere = load(storage=str(Path("studies").absolute()))
    again = open_ledger(elsewhere)
    assert [unit.key for unit in again.next_pack(1)] == [first.key]
    assert again.study.user_attrs["study"]["storage"] == elsewhere.storage
