"""A study file is read whole, refused whole, and rebuilt from what is stored of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_file import EPSILON, load, study_file  # noqa: F401

from ebm_core.config import make_config
from ebm_core.errors import ConfigError
from ebm_core.presets import preset
from study import spec as study_spec
from study.schema.sections import read_constraint
from study.spec import from_resolved, load_study

pytestmark = pytest.mark.usefixtures("study_file")
FEW = settings(max_examples=100, deadline=None, derandomize=True)


def test_a_short_file_is_filled_with_defaults() -> None:
    spec = load()
    assert (spec.name, spec.method, spec.trials) == ("sweep", "tpe", 4)
    assert (spec.seeds, spec.seed) == (1, 0)
    assert [metric.name for metric in spec.metrics] == ["convergence_score"]
    assert spec.metrics[0].goal == "maximize"
    assert (spec.long_run.steps, spec.long_run.chains) == (2000, 256)
    assert (spec.resources.cpus_per_trial, spec.resources.gpus_per_trial) == (1, 0.0)
    assert (spec.resources.members_per_trial, spec.resources.address) == (1, "local")
    assert (spec.tracking.uri, spec.tracking.experiment) == ("sqlite:///mlflow.db", "sweep")
    assert spec.folder == Path("studies/sweep")
    assert (spec.constraints, spec.first_points) == ((), ())
    assert (spec.engine, spec.engine_path) == ("auto", None)


def test_a_full_file_is_read() -> None:
    spec = load(
        metric="[{name: convergence_score, goal: maximize}, {name: epsilon, goal: minimize}]",
        constraints='["diverged == 0", "r_matched<=1.4", "d_balance >= -1e-1"]',
        seeds="3",
        seed="7",
        first_points="[{epsilon: 0.08}]",
        long_run="{steps: 0, chains: 10}",
        resources="{cpus_per_trial: auto, gpus_per_trial: 0.5, members_per_trial: auto}",
        tracking="{experiment: mine}",
        storage="~/studies",
        engine="reference",
    )
    assert spec.early_stop is None
    assert [metric.goal for metric in spec.metrics] == ["maximize", "minimize"]
    assert [(c.name, c.relation, c.limit) for c in spec.constraints] == [
        ("diverged", "==", 0.0),
        ("r_matched", "<=", 1.4),
        ("d_balance", ">=", -0.1),
    ]
    assert spec.first_points == ({"epsilon": 0.08},)
    assert (spec.resources.cpus_per_trial, spec.resources.members_per_trial) == ("auto", "auto")
    assert spec.tracking.experiment == "mine"
    assert spec.engine_path == spec.resolved()["engine"] == "reference"
    assert spec.folder == Path.home() / "studies" / "sweep"


def test_failures_and_machines_have_defaults() -> None:
    resources = load().resources
    assert (resources.retries, resources.address) == (2, "local")
    assert resources.seconds_per_trial is None
    assert resources.gigabytes_per_trial is None


@pytest.mark.parametrize(
    "address", ["auto", "10.0.0.1:6379", "head-1.cluster:6379", "[fe80::1]:6379", "h:1"]
)
def test_a_study_may_join_a_cluster(address: str) -> None:
    Path("images").mkdir()
    spec = load(
        base__data=json.dumps(
            {
                "name": "image_folder",
                "path": str(Path("images").absolute()),
                "size": 8,
                "channels": 1,
            }
        ),
        resources=json.dumps(
            {"address": address, "retries": 0, "seconds_per_trial": 60, "gigabytes_per_trial": 1.5}
        ),
        storage=str(Path("studies").absolute()),
    )
    assert spec.resources.address == address
    assert spec.resources.seconds_per_trial == 60.0
    assert from_resolved(spec.resolved()) == spec


# -- the base and its configurations -------------------------------------------------------------


def test_the_base_is_a_preset_and_what_differs() -> None:
    spec = load(base__updates="3000", base__network__widths="[64]")
    config = spec.config({"epsilon": 0.1}, 0)
    assert config == preset(
        "digits", epsilon=0.1, updates=3000, network={"name": "mlp", "widths": [64]}
    )
    assert "preset" not in spec.base


def test_a_mapping_of_another_kind_replaces_that_of_the_preset() -> None:
    spec = load(base__network="{name: vanilla, width: 4}", base__data="{size: 16}")
    config = spec.config({"epsilon": 0.1}, 0)
    assert (config.network.name, config.data.shape) == ("vanilla", (1, 16, 16))


def test_every_repeat_has_a_seed_of_its_own() -> None:
    spec = load(base__seed="40", seeds="3")
    assert [spec.config({"epsilon": 0.1}, k).seed for k in range(3)] == [40, 41, 42]


def test_a_searched_ratio_replaces_the_rate_at_the_start_and_the_other_way_round() -> None:
    ratio = load(parameters__gamma_start_ratio="{distribution: uniform, min: 1, max: 9}")
    config = ratio.config({"epsilon": 0.1, "gamma_start_ratio": 4.0}, 0)
    assert config.gamma_start is None
    assert config.start_rate == pytest.approx(0.02)
    start = load(
        base__gamma_start_ratio="5",
        parameters__gamma_start="{distribution: uniform, min: 0.1, max: 0.9}",
    )
    config = start.config({"epsilon": 0.1, "gamma_start": 0.4}, 0)
    assert (config.gamma_start_ratio, config.start_rate) == (None, 0.4)


def test_a_base_can_give_the_rate_at_the_start_in_the_other_form() -> None:
    config = load(base__gamma_start_ratio="5").config({"epsilon": 0.1}, 0)
    assert (config.gamma_start, config.gamma_start_ratio) == (None, 5.0)


def test_a_point_is_snapped_before_it_is_trained() -> None:
    spec = load(
        parameters__anneal_updates="{distribution: quniform, min: 0, max: 1200, q: 100}",
        parameters__gamma_0="{distribution: constant, value: 0.02}",
    )
    config = spec.config({"epsilon": 0.9, "anneal_updates": 449.0}, 0)
    assert (config.epsilon, config.anneal_updates, config.gamma_0) == (0.4, 400, 0.02)


def test_a_parameter_stands_in_for_a_key_that_the_base_lacks() -> None:
    spec = load(base="{data: gmm, network: toy, updates: 4000}")
    assert spec.config({"epsilon": 0.1}, 0) == make_config(
        {"data": "gmm", "network": "toy", "updates": 4000, "epsilon": 0.1}
    )


def test_a_value_of_the_base_that_is_replaced_need_not_fit_the_others() -> None:
    many = "{distribution: choice, values: [4000, 5000]}"
    assert load(base__updates="100", parameters__updates=many).base["updates"] == 100


# -- trials --------------------------------------------------------------------------------------


def test_a_grid_has_as_many_trials_as_points_or_fewer_if_asked() -> None:
    grid = {"method": "grid", "parameters__epsilon__points": "5"}
    assert load(**grid, trials="null").trials == 5
    assert load(**grid, trials="3").trials == 3


# -- warnings ------------------------------------------------------------------------------------


def test_an_ordinary_study_has_no_warnings() -> None:
    assert study_spec.warnings(load()) == []


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        (
            {"parameters__eps_data_ratio": "{distribution: uniform, min: 0.5, max: 2}"},
            "eps_data_ratio falls to 0.5: under 1 the data have less noise than the chains",
        ),
        (
            {"parameters__gamma_0": "{distribution: uniform, min: 0, max: 0.05}"},
            "gamma_0 falls to 0: there nothing is learned",
        ),
        (
            {"base__anneal_updates": "0"},
            "gamma_start has no effect: anneal_updates is 0, so that gamma_0 is kept",
        ),
        (
            {"base__gamma_start": "null"},
            "anneal_updates has no effect at epsilon=0.01: neither gamma_start nor"
            " gamma_start_ratio is given",
        ),
        (
            {"parameters__gamma_0": "{distribution: uniform, min: 0.01, max: 0.2}"},
            "anneal_updates has no effect at epsilon=0.01, gamma_0=0.2: gamma_start is not above"
            " gamma_0=0.2",
        ),
        (
            {"base__bank_size": "20000"},
            "trainings will be unassessed at epsilon=0.01: the window starts at update 1200, but"
            " the bank burns in until 1563",
        ),
        (
            {"base__data": "{name: digits, size: 12}"},
            "network at epsilon=0.01: the first layer of mlp has 96 units for 144 numbers",
        ),
        (
            {"early_stop": "{pruner: median, grace: 1900}"},
            "early_stop has no effect: the median pruner waits for 5 finished trainings, and the"
            " study has 4",
        ),
        (
            {"early_stop": "{pruner: hyperband, grace: 1900}", "trials": "30"}
            | {"base__updates": "20000"},
            "early_stop: hyperband has 3 brackets, and method tpe learns from one at a time: the"
            " smallest has about 5 of 30 trials",
        ),
        (
            {"early_stop": "{pruner: hyperband, grace: 1900}", "base__bank_size": "15000"},
            "early_stop.grace is 1900, but nothing is known of a training at epsilon=0.01 before"
            " update 1972: its bank burns in, and a window follows",
        ),
        (
            {"base__device": "cpu", "resources__gpus_per_trial": "1"},
            "resources.gpus_per_trial is over 0, but base.device is cpu",
        ),
    ],
)
def test_what_is_seldom_meant_is_warned_of(changes: dict[str, str], start: str) -> None:
    (warning,) = study_spec.warnings(load(**changes))
    assert warning.startswith(start)


def test_no_noise_where_the_law_is_known_is_a_choice() -> None:
    base = "{data: gmm, network: toy, updates: 4000, eps_data_ratio: 0}"
    assert study_spec.warnings(load(base=base)) == []
    assert study_spec.warnings(load(base=base.replace("0}", "0.5}")))


def test_annealing_that_is_searched_may_be_off() -> None:
    lengths = "{distribution: choice, values: [0, 500, 1000]}"
    assert study_spec.warnings(load(parameters__anneal_updates=lengths)) == []
    ratio = "{distribution: loguniform, min: 1, max: 20}"
    assert study_spec.warnings(load(parameters__gamma_start_ratio=ratio)) == []


# -- constraints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [("r <= 2", 2.0, 2.5), ("r >= -1.5e0", -1.5, -2.0), ("r == 0", 0.0, -0.5)],
)
def test_a_constraint_measures_how_far_it_is_broken(
    text: str, inside: float, outside: float
) -> None:
    constraint = read_constraint(f"  {text} ")
    assert constraint.text == text
    assert constraint.violation(inside) <= 0
    assert constraint.violation(outside) == 0.5


# -- storing -------------------------------------------------------------------------------------

PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "epsilon": [
        {**EPSILON, "points": 3},
        {"distribution": "quniform", "min": 0.1, "max": 0.5, "q": 0.1, "points": 2},
        {"distribution": "choice", "values": [0.05, 0.1]},
    ],
    "anneal_updates": [
        {"distribution": "randint", "min": 0, "max": 900, "points": 4},
        {"distribution": "quniform", "min": 0, "max": 1200, "q": 100, "points": 3},
        {"distribution": "choice", "values": [0, 1000]},
    ],
    "optimizer": [{"distribution": "choice", "values": ["sgd", "adam"]}],
    "gamma_start_ratio": [{"distribution": "uniform", "min": 1, "max": 20, "points": 2}],
    "init_scale": [{"distribution": "constant", "value": 2}],
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A random legal study document."""
    names = draw(st.lists(st.sampled_from(list(PARAMETERS)[:4]), min_size=1, unique=True))
    parameters = {name: draw(st.sampled_from(PARAMETERS[name])) for name in names}
    if draw(st.booleans()):
        parameters["init_scale"] = PARAMETERS["init_scale"][0]
    method = draw(st.sampled_from(["grid", "random", "sobol", "tpe", "gp", "nsga2", "boundary"]))
    columns = st.sampled_from(["convergence_score", "epsilon", "r_matched", "diverged"])
    goals = st.sampled_from(["maximize", "minimize"])
    metric = st.builds(lambda name, goal: {"name": name, "goal": goal}, columns, goals)
    optional = {
        "metric": st.one_of(
            metric,
            st.lists(metric, min_size=1, max_size=3, unique_by=lambda each: each["name"]),
        ),
        "constraints": st.lists(
            st.builds(
                lambda name, relation, limit: f"{name} {relation} {limit!r}",
                columns,
                st.sampled_from(["<=", ">=", "=="]),
                st.floats(-10, 10),
            ),
            max_size=3,
        ),
        "seeds": st.integers(1, 5),
        "seed": st.integers(0, 2**31 - 1),
        "long_run": st.fixed_dictionaries({}, optional={"steps": st.integers(0, 5000)}),
        "storage": st.sampled_from(["studies", "elsewhere/deep"]),
        "tracking": st.fixed_dictionaries({}, optional={"experiment": st.just("mine")}),
        "resources": st.fixed_dictionaries({}, optional={"retries": st.integers(0, 100)}),
    }
    return {
        "name": draw(st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True)),
        "base": {"preset": draw(st.sampled_from(["digits", "digits_strong"])), "updates": 4000},
        "parameters": parameters,
        "method": method,
        **({} if method == "grid" else {"trials": draw(st.integers(1, 99))}),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }


@FEW
@given(documents())
def test_a_study_is_rebuilt_from_what_is_stored(document: dict[str, Any]) -> None:
    spec = from_resolved(document)
    stored = json.dumps(spec.resolved(), allow_nan=False)
    again = from_resolved(json.loads(stored))
    assert again == spec
    assert json.dumps(again.resolved(), allow_nan=False) == stored
    assert list(again.parameters) == list(document["parameters"])


def test_a_stored_study_is_a_study_file() -> None:
    spec = load(first_points="[{epsilon: 0.08}]", constraints="['diverged == 0']")
    Path("again.yaml").write_text(json.dumps(spec.resolved()))
    assert load_study("again.yaml") == spec


def test_what_is_stored_shares_nothing_with_the_study() -> None:
    spec = load()
    spec.resolved()["base"]["network"]["widths"].append(7)
    assert spec.base["network"]["widths"] == [96, 96]


def test_a_stored_study_does_not_need_its_disk() -> None:
    Path("data").mkdir()
    spec = load(base__data="{name: image_folder, path: data, size: 8, channels: 1}")
    Path("data").rmdir()
    assert from_resolved(spec.resolved()) == spec


def test_a_stored_study_that_was_changed_is_checked() -> None:
    document = load().resolved()
    document["parameters"]["epsilon"]["max"] = 0
    with pytest.raises(ConfigError, match=r"^parameters\.epsilon\.min: `min < max` must hold"):
        from_resolved(document)
