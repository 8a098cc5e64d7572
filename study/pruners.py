"""Which trainings Optuna stops early; what a pruner goes by is all in the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.schema.early_stop import update_range

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from study.spec import StudySpec


def looks(spec: StudySpec) -> tuple[int, ...]:
    """After how many updates the metric of a training is reported, and its pruner asked.

    All trainings of a study have the same looks, so that they are compared at the same update;
    one with fewer updates than others has those below its own.
    """
    return () if spec.early_stop is None else spec.early_stop.looks(_most_updates(spec))


def make_pruner(spec: StudySpec) -> BasePruner:
    """The pruner of a study; its steps are counts of updates made.

    It may be made anew at any time: the values and rungs that it compares are attributes of the
    Optuna trials. One that is NaN is stopped, so that a metric that is not known yet must not be
    reported. A halving pruner that has decided and is asked again at the same update, as after an
    interruption between decision and record, lets the training go on to its next rung.
    """
    from optuna import pruners

    stop = spec.early_stop
    if stop is None:
        return pruners.NopPruner()
    if stop.pruner == "median":
        assert stop.startup_trials is not None
        assert stop.interval is not None
        return pruners.MedianPruner(stop.startup_trials, stop.grace, stop.interval)
    assert stop.reduction is not None
    if stop.pruner == "successive_halving":
        return pruners.SuccessiveHalvingPruner(stop.grace, stop.reduction, 0)
    return _ready(
        pruners.HyperbandPruner(stop.grace, _most_updates(spec), stop.reduction),
    )


def _ready(pruner: BasePruner) -> BasePruner:
    """Asked once about nothing: until then a hyperband does not know its brackets.

    A sampler that met it before would learn from the trials of all brackets, where one that goes
    on learns from those of its own.
    """
    import optuna

    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    pruner.prune(study, optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING))
    return pruner


def _most_updates(spec: StudySpec) -> int:
    found = update_range(spec.base, spec.parameters)
    assert found is not None, "every point of a validated space is a legal configuration"
    return found[1]
