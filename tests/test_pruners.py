"""Early stopping: when trainings are looked at, and that a pruner keeps nothing of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from study_file import load, study_file  # noqa: F401

from study import space
from study.pruners import looks, make_pruner
from study.samplers import make_sampler
from study.schema.early_stop import EarlyStop
from study.spec import StudySpec

pytestmark = pytest.mark.usefixtures("study_file")
PRUNERS = ("median", "successive_halving", "hyperband")
LONG = {"base__updates": "20000", "trials": "30"}


def stopping(early_stop: str, **changes: str) -> StudySpec:
    return load(early_stop=early_stop, **{**LONG, **changes})


def curve(number: int) -> Callable[[int], float]:
    """A made-up metric of a training; training 7 k mod 10 is the best of ten."""
    rank = (7 * number) % 10 / 10
    return lambda update: rank * (1 - 500 / update)


# -- looks ---------------------------------------------------------------------------------------


def test_without_the_section_nothing_is_looked_at_or_stopped() -> None:
    spec = load()
    assert spec.early_stop is None
    assert spec.resolved()["early_stop"] is None
    assert looks(spec) == ()
    assert isinstance(make_pruner(spec), optuna.pruners.NopPruner)


def test_looks_begin_with_the_grace_and_end_before_the_training() -> None:
    assert looks(stopping("{pruner: median, grace: 2000, interval: 6000}")) == (2000, 8000, 14000)
    # the last update ends the training anyway
    assert looks(stopping("{pruner: median, grace: 2000, interval: 9000}")) == (2000, 11000)
    assert looks(stopping("{pruner: median, grace: 19999}")) == (19_999,)


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband"])
def test_the_halving_pruners_are_asked_where_they_decide_too(pruner: str) -> None:
    spec = stopping(f"{{pruner: {pruner}, grace: 2000, interval: 7000, reduction: 2}}")
    assert looks(spec) == (2000, 4000, 8000, 9000, 16000)


@pytest.mark.parametrize(
    ("changes", "interval"),
    [
        ({}, 1_000),
        ({"base__report_interval": "1500"}, 1_500),
        ({"parameters__updates": "{distribution: choice, values: [20000, 30010]}"}, 1_501),
    ],
)
def test_a_training_is_looked_at_twenty_times_but_not_more_often_than_it_reports(
    changes: dict[str, str], interval: int
) -> None:
    spec = stopping("{pruner: median, grace: 2000}", **changes)
    assert spec.early_stop is not None
    assert spec.early_stop.interval == spec.resolved()["early_stop"]["interval"] == interval
    assert looks(spec)[:2] == (2_000, 2_000 + interval)


def test_all_trainings_of_a_study_have_the_same_looks() -> None:
    many = "{distribution: choice, values: [5000, 20000]}"
    spec = stopping("{pruner: median, grace: 2000, interval: 6000}", parameters__updates=many)
    assert looks(spec) == (2000, 8000, 14000)


def test_the_defaults_are_those_of_the_pruner() -> None:
    median, halving = (stopping(f"{{pruner: {name}, grace: 2000}}") for name in PRUNERS[:2])
    assert median.resolved()["early_stop"] == {
        "pruner": "median",
        "grace": 2000,
        "interval": 1000,
        "startup_trials": 5,
    }
    assert halving.resolved()["early_stop"] == {
        "pruner": "successive_halving",
        "grace": 2000,
        "interval": 1000,
        "reduction": 3,
    }


# -- pruners -------------------------------------------------------------------------------------


class Trainings:
    """Thirty made-up trainings side by side, looked at and stopped as a study would do it.

    Args:
        spec: The study.
        url: Of its storage; a database is opened anew before every three trainings.
        anew: Whether study and pruner are made anew for every single question.
    """

    def __init__(self, spec: StudySpec, url: str, anew: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.spec, self.url, self.anew = spec, url, anew
        self.storage: optuna.storages.BaseStorage = optuna.storages.InMemoryStorage()
        self._study: optuna.Study | None = None
        self.distributions = space.to_optuna(spec.parameters)

    @property
    def study(self) -> optuna.Study:
        if self._study is None or self.anew:
            self._study = optuna.create_study(
                study_name="sweep",
                storage=self.storage,
                direction="maximize",
                pruner=make_pruner(self.spec),
                load_if_exists=True,
            )
        return self._study

    def ask(self, number: int) -> None:
        study = self.study
        study.sampler = make_sampler(self.spec, number)
        study.ask(self.distributions)

    def prunes(self, number: int, update: int) -> bool:
        study = self.study
        trial = optuna.trial.Trial(study, study.trials[number]._trial_id)
        trial.report(curve(number)(update), update)
        return bool(trial.should_prune())

    def run(self, workers: int = 3) -> list[tuple[int, float, int]]:
        """(number, what was drawn, updates made) of each; 20,000 for those not stopped."""
        ended: dict[int, int] = {}
        for first in range(0, self.spec.trials, workers):
            if self.url != "memory":
                self.storage = optuna.storages.get_storage(self.url)
            running = list(range(first, first + workers))
            for number in running:
                self.ask(number)
            for update in looks(self.spec):
                for number in list(running):
                    if self.prunes(number, update):
                        self.study.tell(number, state=optuna.trial.TrialState.PRUNED)
                        running.remove(number)
                        ended[number] = update
            for number in running:
                self.study.tell(number, curve(number)(20_000))
                ended[number] = 20_000
        drawn = [trial.params["epsilon"] for trial in self.study.trials]
        return [(number, drawn[number], ended[number]) for number in sorted(ended)]


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("url", ["memory", "sqlite:///o.db"])
def test_a_pruner_made_anew_goes_on_as_one_that_was_kept(pruner: str, url: str) -> None:
    """At every single question: what was drawn, and where each training ended."""
    # a database takes its time to be opened
    trials, interval = ("30", 4000) if url == "memory" else ("9", 20_000)
    spec = stopping(f"{{pruner: {pruner}, grace: 1900, interval: {interval}}}", trials=trials)
    kept = Trainings(spec, "memory", anew=False).run()
    assert Trainings(spec, url, anew=True).run() == kept
    stopped = [end for _, _, end in kept if end < 20_000]
    assert 0 < len(stopped) < len(kept)
    assert min(stopped) >= 1900
    assert Path("o.db").exists() == (url != "memory")


@pytest.mark.parametrize("pruner", PRUNERS)
def test_the_best_goes_on_to_the_end_and_the_worst_does_not(pruner: str) -> None:
    spec = stopping(f"{{pruner: {pruner}, grace: 1900, interval: 2000}}")
    ended = {number: end for number, _, end in Trainings(spec, "memory", anew=False).run()}
    best = [number for number in ended if (7 * number) % 10 == 9]
    worst = [number for number in ended if number > 9 and (7 * number) % 10 == 0]
    assert all(ended[number] == 20_000 for number in best)
    assert any(ended[number] < 20_000 for number in worst)


def test_a_hyperband_that_was_never_asked_shows_samplers_other_trials() -> None:
    """Which is why `make_pruner` asks it once about nothing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = stopping("{pruner: hyperband, grace: 1900}")
    ready = make_pruner(spec)
    asleep = optuna.pruners.HyperbandPruner(1900, 20_000, 3)
    brackets: list[list[int]] = []
    for pruner in (ready, asleep):
        study = optuna.create_study(study_name="sweep", pruner=pruner)
        for _ in range(12):
            study.add_trial(optuna.trial.create_trial(value=0.0))
        seen = optuna.pruners._filter_study(study, study.ask()._cached_frozen_trial)
        brackets.append([trial.number for trial in seen.get_trials() if trial.state.is_finished()])
    assert 0 < len(brackets[0]) < 12
    assert brackets[1] == list(range(12))


@pytest.mark.parametrize("updates", [1_900, 5_699, 5_701, 20_000, 2_000_000])
@pytest.mark.parametrize("reduction", [2, 3, 10])
def test_brackets_are_those_of_optuna(updates: int, reduction: int) -> None:
    stop = EarlyStop(pruner="hyperband", grace=1_899, reduction=reduction)
    theirs = optuna.pruners.HyperbandPruner(1_899, updates, reduction)
    theirs._try_initialization(optuna.create_study())
    budgets = theirs._trial_allocation_budgets
    assert stop.brackets(updates) == tuple(each / sum(budgets) for each in budgets)
    assert EarlyStop(pruner="median", grace=1_899).brackets(updates) == (1.0,)


@pytest.mark.parametrize(
    ("early_stop", "again"),
    [
        ("{pruner: median, grace: 1900, interval: 3800, startup_trials: 1}", True),
        ("{pruner: successive_halving, grace: 1900}", False),
    ],
)
def test_a_rung_that_was_decided_and_not_recorded_is_left_to_the_next(
    early_stop: str, again: bool
) -> None:
    trainings = Trainings(stopping(early_stop), "memory", anew=True)
    for number in range(2):
        trainings.ask(number)
    assert not trainings.prunes(1, 1900)
    assert not trainings.prunes(1, 5700)
    trainings.study.tell(1, 1.0)
    assert trainings.prunes(0, 1900)
    with pytest.warns(UserWarning, match="already reported"):
        assert trainings.prunes(0, 1900) is again
    assert trainings.prunes(0, 5700)


def test_a_metric_that_is_not_known_is_not_to_be_reported_as_nan() -> None:
    """A rung that was passed without a number is decided at the next look."""
    spec = stopping("{pruner: successive_halving, grace: 1900}")
    trainings = Trainings(spec, "memory", anew=True)
    for number in range(3):
        trainings.ask(number)
    assert not trainings.prunes(1, 1900)
    assert trainings.prunes(0, 2900)
    trial = optuna.trial.Trial(trainings.study, trainings.study.trials[2]._trial_id)
    trial.report(float("nan"), 1900)
    assert trial.should_prune()
