"""Whatever is wrong with a study file is told in full, and nothing is written."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_file import DOCUMENT, load, study_file  # noqa: F401

from ebm_core.errors import ConfigError, Problem
from study.spec import StudySpec, from_resolved, load_study
from study.table import NUMERIC_NAMES

pytestmark = pytest.mark.usefixtures("study_file")
SEARCHABLE = (
    "epsilon, eps_data_ratio, gamma_0, gamma_start, gamma_start_ratio, anneal_updates, optimizer,"
    " data, network, langevin_steps, chain_start, bank_size, bank_start, start_scale,"
    " reinit_share, batch_size, updates, init_scale"
)


WATCHABLE = (
    "r_band_adherence, r_paper_band_adherence, r_1, r, r_scaled, r_matched, d_balance, acf_min,"
    " acf_min_lag, corr_d_r, convergence_score, convergence_margin, r_rms, r_over_floor, r_drift,"
    " margin_r_in_band, margin_d_balanced, margin_oscillation_weak, margin_r_level,"
    " margin_model_at_rest, margin_spread_matched, restlessness, chain_spread, clipped_share"
)


def messages(changes: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigError, match=r"^s\.yaml: ") as caught:
        load_study("s.yaml", changes)
    assert caught.value.source == "s.yaml"
    return [str(problem) for problem in caught.value.problems]


MESSAGES: list[tuple[dict[str, str], list[str]]] = [
    ({"trails": "4"}, ["trails: unknown key, got 4; did you mean `trials`?"]),
    (
        {"parameters.epsilon.mx": "1"},
        ["parameters.epsilon.mx: unknown key, got 1; did you mean `max`?"],
    ),
    ({"engine": "fast"}, ["engine: must be one of auto, reference, got 'fast'"]),
    (
        {"engine": "refrence"},
        ["engine: must be one of auto, reference, got 'refrence'; did you mean `reference`?"],
    ),
    ({"engine": "[auto]"}, ["engine: must be one of auto, reference, got ['auto']"]),
    ({"base.epsilonn": "1"}, ["base.epsilonn: unknown key, got 1; did you mean `epsilon`?"]),
    (
        {"base.data.sizee": "8"},
        ["base.data.sizee: unknown key, got 8; did you mean `size`?"],
    ),
    (
        {"resources.cpu_per_trial": "8"},
        ["resources.cpu_per_trial: unknown key, got 8; did you mean `cpus_per_trial`?"],
    ),
    # wrong types
    ({"base.updates": "many"}, ["base.updates: must be a valid integer, got 'many'"]),
    ({"base.updates": "yes"}, ["base.updates: must not be true or false, got True"]),
    ({"trials": "many"}, ["trials: must be a whole number from 1 to 1,000,000, got 'many'"]),
    ({"trials": "2.5"}, ["trials: must be a whole number from 1 to 1,000,000, got 2.5"]),
    ({"seeds": "true"}, ["seeds: must be a whole number from 1 to 10,000, got True"]),
    ({"seed": "-1"}, ["seed: must be a whole number from 0 to 2,147,483,647, got -1"]),
    ({"base": "3"}, ["base: must be a mapping such as {preset: digits, updates: 3000}, got 3"]),
    ({"base.seed": "'5'"}, ["base.seed: must be a whole number, got '5'"]),
    ({"long_run": "2000"}, ["long_run: must be a mapping of keys to values, got 2000"]),
    ({"constraints": "diverged"}, ["constraints: must be a list, got 'diverged'"]),
    (
        {"parameters.epsilon": "0.1"},
        [
            "parameters.epsilon: must be a mapping such as"
            " {distribution: uniform, min: 0, max: 1}, got 0.1"
        ],
    ),
    # low >= high
    (
        {"parameters.epsilon.max": "0.001"},
        ["parameters.epsilon.min: `min < max` must hold (max=0.001), got 0.01"],
    ),
    # presets and data
    (
        {"base.preset": "digit"},
        [
            "base.preset: must be one of gmm_convergent, rings_convergent, gmm_nonconvergent,"
            " rings_nonconvergent, mnist_convergent, flowers_convergent, flowers_nonconvergent,"
            " cifar10_nonconvergent, cifar10_oscillating, digits, digits_strong, got 'digit';"
            " did you mean `digits`?"
        ],
    ),
    ({"base.preset": "[1]"}, ["base.preset: must be the name of a preset, got [1]"]),
    (
        {"base.data": "{name: image_folder, path: nowhere, size: 8}"},
        ["base.data.path: no such file or folder, got 'nowhere'"],
    ),
    (
        {"base.data": "{name: image_folder, path: nowhere, size: 12}", "base.network": "vanilla"},
        [
            "base.data.size: vanilla takes square images of 8, 16, 32, 64 pixels, got '12x12'",
            "base.data.path: no such file or folder, got 'nowhere'",
        ],
    ),
    (
        {"base.network": "vanilla", "base.data.size": "12"},
        ["base.data.size: vanilla takes square images of 8, 16, 32, 64 pixels, got '12x12'"],
    ),
    (
        {"base.network": "{name: 'a.b:c', arguments: {day: 2024-01-01}}"},
        [
            "base.network.arguments: must be made of numbers, words, lists and mappings,"
            " got {'day': datetime.date(2024, 1, 1)}"
        ],
    ),
    # points that are no configuration
    (
        {"parameters.anneal_updates": "{distribution: randint, min: 0, max: 1500}"},
        [
            "parameters.anneal_updates: `anneal_updates + window <= updates` must hold"
            " (window=800, updates=2000), got 1499"
        ],
    ),
    (
        {"base.anneal_updates": "1500"},
        [
            "base.anneal_updates: `anneal_updates + window <= updates` must hold"
            " (window=800, updates=2000), got 1500"
        ],
    ),
    (
        {"parameters.updates": "{distribution: choice, values: [4000, 1500]}"},
        [
            "base.anneal_updates: `anneal_updates + window <= updates` must hold"
            " (window=800, updates=1500), got 1000"
        ],
    ),
    (
        {"parameters.anneal_updates": "{distribution: uniform, min: 0, max: 1100}"},
        [
            "parameters.anneal_updates.distribution: must give whole numbers: use randint, or"
            " quniform with a whole q, got 'uniform'"
        ],
    ),
    (
        {"parameters.epsilon.distribution": "uniform", "parameters.epsilon.min": "-0.1"},
        ["parameters.epsilon: must be greater than 0, got -0.1"],
    ),
    (
        {"parameters.optimizer": "{distribution: choice, values: [sgd, adamm]}"},
        ["parameters.optimizer: must be one of sgd, adam, got 'adamm'; did you mean `adam`?"],
    ),
    (
        {"parameters.eps_data_ratio": "{distribution: uniform, min: 0, max: 2}"},
        [
            "parameters.eps_data_ratio: must be over 0 for a finite data set, whose law has no"
            " density without noise, got 0.0"
        ],
    ),
    (
        {"base": "{network: mlp, updates: 5000}"},
        ["base.data: required, but not given"],
    ),
    (
        {"base.seed": "2147483647", "seeds": "2"},
        ["base.seed: must be less than 2147483648, got 2147483648"],
    ),
    # values of the base that every point replaces
    ({"base.epsilon": ".inf"}, ["base.epsilon: must be a finite number, got inf"]),
    (
        {"base.epsilon": "wide", "parameters.epsilon.max": "0.001"},
        [
            "parameters.epsilon.min: `min < max` must hold (max=0.001), got 0.01",
            "base.epsilon: must be a valid number, got 'wide'",
        ],
    ),
    (
        {"base.epsilon": "-1", "parameters.epsilon": "{distribution: choice, values: [-2, 1]}"},
        [
            "parameters.epsilon: must be greater than 0, got -2",
            "base.epsilon: must be greater than 0, got -1",
        ],
    ),
    (
        {
            "base.gamma_start": "0",
            "parameters.gamma_start_ratio": "{distribution: uniform, min: 1, max: 9}",
        },
        ["base.gamma_start: must be greater than 0, got 0"],
    ),
    # parameters
    (
        {"parameters.epsilon.distribution": "lognormal"},
        [
            "parameters.epsilon.distribution: must be one of uniform, loguniform, quniform,"
            " qloguniform, randint, choice, grid, constant, got 'lognormal';"
            " did you mean `loguniform`?"
        ],
    ),
    (
        {"parameters.epsilom": "{distribution: uniform, min: 0, max: 1}"},
        [
            f"parameters.epsilom: must be one of {SEARCHABLE}, got 'epsilom';"
            " did you mean `epsilon`?"
        ],
    ),
    (
        {"parameters.seed": "{distribution: randint, min: 0, max: 3}"},
        [f"parameters.seed: cannot be searched; these can be: {SEARCHABLE}, got 'seed'"],
    ),
    (
        {"parameters.epsilon": "{distribution: constant, value: 0.1}"},
        [
            "parameters: at least one must vary; `python -m ebm_core train` runs a single"
            " configuration, got ['epsilon']"
        ],
    ),
    (
        {
            "parameters.gamma_0": "{distribution: loguniform, min: 0.01, max: 0.1}",
            "parameters.gamma_start": "{distribution: loguniform, min: 0.1, max: 0.2}",
        },
        [
            "parameters.gamma_start: must not vary together with gamma_0; search"
            " gamma_start_ratio in its place, got 'loguniform from 0.1 to 0.2'"
        ],
    ),
    # packs and machines
    (
        {
            "parameters.network": "{distribution: choice, values: [mlp, vanilla]}",
            "resources.members_per_trial": "4",
        },
        [
            "resources.members_per_trial: must be 1, since the members of a pack cannot differ in"
            " network, got 4"
        ],
    ),
    (
        {
            "parameters.langevin_steps": "{distribution: randint, min: 10, max: 60}",
            "resources.members_per_trial": "auto",
        },
        [
            "resources.members_per_trial: must be 1, since the members of a pack cannot differ in"
            " langevin_steps, got 'auto'"
        ],
    ),
    (
        {"resources": "{cpus_per_trial: 0, members_per_trial: many, gpus_per_trial: 1.5}"},
        [
            "resources.cpus_per_trial: must be a whole number from 1 to 10,000, or auto, got 0",
            "resources.gpus_per_trial: must be a share of one GPU or a whole number of them,"
            " got 1.5",
            "resources.members_per_trial: must be a whole number from 1 to 10,000, or auto,"
            " got 'many'",
        ],
    ),
    (
        {"resources.address": "ray://host"},
        [
            "resources.address: must be local, auto or HOST:PORT: a study is started on a machine"
            " of its cluster, not from outside it, got 'ray://host'"
        ],
    ),
    *(
        (
            {"resources.address": json.dumps(address)},
            [
                "resources.address: must be local, auto or HOST:PORT, such as 10.0.0.1:6379,"
                f" got {address!r}"
            ],
        )
        for address in ("host", "host:", "host:0", "host:65536", "a b:1", ":1", "h:1\n", "h/x:1")
    ),
    (
        {"resources.address": "auto"},
        [
            "storage: must be absolute where resources.address is auto: other machines run in"
            " folders of their own, got 'studies'"
        ],
    ),
    (
        {
            "base.data": "{name: image_folder, path: file, size: 8, channels: 1}",
            "resources.address": "10.0.0.1:6379",
            "storage": "~/studies",
        },
        [
            "base.data.path: must be absolute where resources.address is 10.0.0.1:6379: other"
            " machines run in folders of their own, got 'file'",
            "base.data.path: must be a folder, got 'file'",
        ],
    ),
    (
        {"resources": "{retries: 101, seconds_per_trial: 0, gigabytes_per_trial: .inf}"},
        [
            "resources.retries: must be less than or equal to 100, got 101",
            "resources.seconds_per_trial: must be greater than 0, got 0",
            "resources.gigabytes_per_trial: must be a finite number, got inf",
        ],
    ),
    (
        {"base.device": "cuda"},
        ["resources.gpus_per_trial: must be over 0 where base.device is cuda, got 0.0"],
    ),
    # methods
    (
        {"method": "tpee"},
        [
            "method: must be one of grid, random, sobol, tpe, gp, nsga2, boundary, got 'tpee';"
            " did you mean `tpe`?"
        ],
    ),
    (
        {"early_stop": "{grace: 5}"},
        ["early_stop.pruner: required, but not given"],
    ),
    (
        {"early_stop": "{pruner: medan, grace: 1.5, intervall: 3}"},
        [
            "early_stop.pruner: must be one of median, successive_halving, hyperband,"
            " got 'medan'; did you mean `median`?",
            "early_stop.grace: must be a valid integer, got 1.5",
            "early_stop.intervall: unknown key, got 3; did you mean `interval`?",
        ],
    ),
    (
        {"early_stop": "{pruner: median, grace: 1900, reduction: 3}"},
        ["early_stop.reduction: successive_halving and hyperband take it, median does not, got 3"],
    ),
    (
        {"early_stop": "{pruner: hyperband, grace: 1900, startup_trials: 3}"},
        ["early_stop.startup_trials: median takes it, hyperband does not, got 3"],
    ),
    (
        {"early_stop": "{pruner: hyperband, grace: 1900, reduction: 1}"},
        ["early_stop.reduction: must be greater than or equal to 2, got 1"],
    ),
    (
        {
            "early_stop": "{pruner: median, grace: 1900}",
            "seeds": "2",
            "resources.members_per_trial": "auto",
            "metric": "[{name: r, goal: minimize}, {name: epsilom, goal: minimize}]",
        },
        [
            f"metric.1.name: must be one of the numbers of the table: {', '.join(NUMERIC_NAMES)},"
            " got 'epsilom'; did you mean `epsilon`?"
        ],
    ),
    (
        {
            "early_stop": "{pruner: median, grace: 1900}",
            "seeds": "2",
            "resources.members_per_trial": "auto",
            "metric": "[{name: r, goal: minimize}, {name: long_run_departure, goal: minimize}]",
        },
        [
            "metric: must be a single one with early_stop, got ['r', 'long_run_departure']",
            "metric: with early_stop it must be known while training, as are these:"
            f" {WATCHABLE}, got 'long_run_departure'",
            "seeds: must be 1 with early_stop, which looks at a configuration by one training,"
            " got 2",
            "resources.members_per_trial: must be 1 with early_stop: the members of a pack end"
            " together, got 'auto'",
        ],
    ),
    *(
        (
            {
                "early_stop": "{pruner: median, grace: 1900}",
                "metric": f"{{name: {name}, goal: minimize}}",
            },
            [
                "metric: with early_stop it must be known while training, as are these:"
                f" {WATCHABLE}, got {name!r}{hint}"
            ],
        )
        for name, hint in (
            ("seconds", ""),
            ("trial", ""),
            ("epsilon", ""),
            ("diverged", ""),
            ("long_run_r_hat", ""),
        )
    ),
    (
        {
            "early_stop": "{pruner: median, grace: 1799}",
            "parameters.anneal_updates": "{distribution: randint, min: 0, max: 1001}",
        },
        [
            "early_stop.grace: `anneal_updates + window <= grace` must hold (1800 at"
            " anneal_updates=1000): before that a training cannot be judged, got 1799"
        ],
    ),
    (
        {
            "early_stop": "{pruner: median, grace: 2500}",
            "parameters.updates": "{distribution: choice, values: [4000, 2500]}",
        },
        [
            "early_stop.grace: `grace < updates` must hold (updates=2500): otherwise nothing is"
            " stopped, got 2500"
        ],
    ),
    (
        {"early_stop": "{pruner: median, grace: 1800, interval: 1}", "base.updates": "2802"},
        [
            "early_stop.interval: must leave at most 1,000 looks at a training (updates=2802),"
            " got 1"
        ],
    ),
    (
        {"trials": "null"},
        ["trials: required for method tpe: how many configurations to try"],
    ),
    (
        {"method": "grid"},
        [
            "parameters.epsilon.points: required for method grid: how many values to take, ends"
            " included"
        ],
    ),
    (
        {"method": "grid", "parameters.epsilon.points": "3"},
        [
            "trials: must not be more than the grid has points (3); leave it out for all of them,"
            " got 4"
        ],
    ),
    (
        {
            "method": "grid",
            "parameters.epsilon.points": "1000",
            "parameters.gamma_0": "{distribution: uniform, min: 0.001, max: 0.1, points: 1000}",
        },
        ["parameters: a grid must not have more than 100,000 points, got 1000000"],
    ),
    (
        {"parameters.epsilon": "{distribution: grid, values: [0.1, 0.2]}"},
        [
            "parameters.epsilon.distribution: grid needs `method: grid`; choice is the same for"
            " method tpe, got 'grid'"
        ],
    ),
    # metrics and constraints
    (
        {"constraints": "['diverged = 0']"},
        [
            "constraints.0: must read NAME (<= | >= | ==) NUMBER, such as `diverged == 0`,"
            " got 'diverged = 0'"
        ],
    ),
    (
        {"constraints": "['kl < 1', \"__import__('os') == 0\", 'divergd == 0', 'r <= nan']"},
        [
            "constraints.0: must read NAME (<= | >= | ==) NUMBER, such as `diverged == 0`,"
            " got 'kl < 1'",
            "constraints.1: must read NAME (<= | >= | ==) NUMBER, such as `diverged == 0`,"
            " got \"__import__('os') == 0\"",
            f"constraints.2: must be one of the numbers of the table: {', '.join(NUMERIC_NAMES)},"
            " got 'divergd'; did you mean `diverged`?",
            "constraints.3: must read NAME (<= | >= | ==) NUMBER, such as `diverged == 0`,"
            " got 'r <= nan'",
        ],
    ),
    (
        {"metric": "{name: convergence_scor, goal: maximise}"},
        [
            f"metric.name: must be one of the numbers of the table: {', '.join(NUMERIC_NAMES)},"
            " got 'convergence_scor'; did you mean `convergence_score`?",
            "metric.goal: must be one of maximize, minimize, got 'maximise';"
            " did you mean `maximize`?",
        ],
    ),
    (
        {"metric": "[{name: r, goal: minimize}, {name: r, goal: maximize}]"},
        ["metric: must not name a metric twice, got ['r', 'r']"],
    ),
    ({"metric": "[]"}, ["metric: must name at least one metric, got []"]),
    (
        {"metric": "{name: kl, goal: minimize}"},
        ["metric: needs data of known density (gmm or rings), got 'kl'"],
    ),
    (
        {
            "metric": "{name: sharpness, goal: maximize}",
            "constraints": "['held_out_over_training <= 1']",
            "base.data": "gmm",
            "base.network": "toy",
        },
        [
            "metric: needs a finite data set, not gmm or rings, got 'sharpness'",
            "constraints.0: needs a finite data set, not gmm or rings, got"
            " 'held_out_over_training'",
        ],
    ),
    (
        {"metric": "{name: held_out_over_samples, goal: minimize}"},
        ["metric: needs base.data.held_out over 0, got 'held_out_over_samples'"],
    ),
    (
        {"base.data.held_out": "0.6"},
        ["base.data.held_out: must be less than or equal to 0.5, got 0.6"],
    ),
    (
        {"constraints": "['long_run_departure <= 1']", "long_run.steps": "0"},
        ["constraints.0: needs long_run.steps over 0, got 'long_run_departure'"],
    ),
    (
        {"constraints": "['long_run_r_hat <= 1']", "long_run.steps": "0"},
        ["constraints.0: needs long_run.steps over 0, got 'long_run_r_hat'"],
    ),
    (
        {"constraints": "['discretization_gap <= 1']"},
        ["constraints.0: needs long_run.adjusted_steps over 0, got 'discretization_gap'"],
    ),
    (
        {"long_run.every": "10", "long_run.steps": "0"},
        ["long_run.every: needs steps over 0: the length of the chains, got 10"],
    ),
    (
        {"long_run.adjusted_steps": "10", "long_run.steps": "0"},
        [
            "long_run.adjusted_steps: needs steps over 0: adjusted chains are compared with the "
            "others, got 10"
        ],
    ),
    # first points
    (
        {"first_points": "[{epsilon: 1}, {epsilonn: 0.1}, {epsilon: 0.1}, {epsilon: 0.1}]"},
        [
            "first_points.0.epsilon: must lie in the space (loguniform from 0.01 to 0.4), got 1",
            "first_points.1.epsilonn: not a parameter of this study, got 0.1;"
            " did you mean `epsilon`?",
            "first_points.1.epsilon: required, as every parameter that varies",
            "first_points.3: must not repeat an earlier one, got {'epsilon': 0.1}",
        ],
    ),
    (
        {"first_points": "[{epsilon: 0.1}, {epsilon: 0.2}]", "trials": "1"},
        ["first_points: must not be more than `trials` (1), got 2"],
    ),
    (
        {"first_points": "[0.1]"},
        ["first_points.0: must be a mapping of keys to values, got 0.1"],
    ),
    (
        {
            "first_points": "[{epsilon: 0.1}]",
            "method": "grid",
            "parameters.epsilon.points": "4",
        },
        [
            "first_points: a grid takes all its points anyway; leave first_points out,"
            " got [{'epsilon': 0.1}]"
        ],
    ),
    # places
    (
        {"name": "a/b"},
        [
            "name: must be a word of letters, digits, `-`, `_` and `.` that starts with a letter"
            " or digit and does not end with `.`: it names a folder, got 'a/b'"
        ],
    ),
    (
        {"name": "null", "parameters": "null"},
        ["name: required, but not given", "parameters: required, but not given"],
    ),
    (
        {"storage": "s3://bucket"},
        [
            "storage: must be a folder that all machines see, no address; mount an object store"
            " as one, got 's3://bucket'"
        ],
    ),
    (
        {"tracking.uri": "mlruns"},
        [
            "tracking.uri: must be a database or a server, such as sqlite:///mlflow.db,"
            " got 'mlruns'"
        ],
    ),
]


@pytest.mark.parametrize(("changes", "expected"), MESSAGES)
def test_what_is_wrong_is_told_with_key_rule_and_value(
    changes: dict[str, str], expected: list[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert messages(changes) == expected
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "ends.", "", "x" * 101, "12", "a\\b"])
def test_only_safe_folder_names_are_names(name: str) -> None:
    (message,) = messages({"name": name or "''"})
    assert message.startswith("name: must be a word of letters")


def test_all_problems_of_a_file_come_together() -> None:
    told = messages(
        {
            "trails": "5",
            "method": "border",
            "parameters.epsilon.max": "0.001",
            "parameters.anneal_updates": "{distribution: randint, min: 0, max: 1500}",
            "base.epsilonn": "1",
            "base.data": "{name: image_folder, path: nowhere}",
            "constraints": "['kl < 1']",
            "storage": "file",
        }
    )
    assert [message.partition(": ")[0] for message in told] == [
        "trails",
        "method",
        "constraints.0",
        "parameters.epsilon.min",
        "base.epsilonn",
        "parameters.anneal_updates",
        "base.data.path",
        "storage",
    ]


def test_a_storage_below_a_file_is_refused() -> None:
    place = Path("file").absolute()
    assert messages({"storage": "file/studies"}) == [
        f"storage: must lie in a folder, but {place} is not one, got 'file/studies'"
    ]
    assert messages({"tracking.uri": "sqlite:///file/x.db"}) == [
        f"tracking.uri: must lie in a folder, but {place} is not one, got 'sqlite:///file/x.db'"
    ]


def test_a_file_in_the_place_of_the_study_is_refused() -> None:
    Path("studies").mkdir()
    Path("studies/sweep").write_text("")
    (message,) = messages({})
    assert message.startswith("storage: must lie in a folder, but ")


def test_an_unwritable_storage_is_refused_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    locked = Path("locked").absolute()
    locked.mkdir()
    # whoever runs the tests may be allowed to write everywhere
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and access(path, mode))
    assert messages({"storage": "locked/deep/studies"}) == [
        f"storage: must be a folder that can be written to, but {locked} cannot,"
        " got 'locked/deep/studies'"
    ]
    assert not list(locked.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "must be YAML; line 2, column 1: key `name` is given twice"),
        ("name: [a\n", "must be YAML; line 2, column 1: "),
        ("just words", "must be a mapping of keys to values, got 'just words'"),
    ],
)
def test_what_is_no_study_document_is_refused(text: str, message: str) -> None:
    Path("s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"s.yaml: {message}")):
        load_study("s.yaml")


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^none\.yaml: must be a readable file"):
        load_study(Path("none.yaml"))


def test_overrides_are_checked_like_the_file() -> None:
    assert load(parameters__epsilon__max="2e-1").parameters["epsilon"].max == 0.2  # type: ignore[union-attr]
    assert messages({"name.first": "x"}) == [
        "name.first: `name` must be a mapping to set a key below it, got 'sweep'"
    ]


KEYS = st.sampled_from(["name", "preset", "epsilon", "distribution", "values", "data", "seed", 1])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
SECTIONS = (
    "name base parameters method metric constraints trials seeds seed first_points long_run"
    " resources tracking storage"
)
INSIDE = (
    "base.data base.network base.seed base.band parameters.epsilon parameters.epsilon.max"
    " parameters.gamma_0 parameters.network"
)
PLACES = st.sampled_from(f"{SECTIONS} {INSIDE}".split())


def read(document: dict[str, Any]) -> StudySpec | list[Problem]:
    try:
        return from_resolved(document)
    except ConfigError as error:
        return error.problems


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(PLACES, JUNK, min_size=1, max_size=3))
def test_junk_is_refused_in_words_or_is_a_study(changes: dict[str, Any]) -> None:
    document = copy.deepcopy(DOCUMENT)
    for key, value in changes.items():
        *way, last = key.split(".")
        place: Any = document
        for part in way:
            place = place[part] if isinstance(place.get(part), dict) else {}
        place[last] = value
    found = read(document)
    if isinstance(found, StudySpec):
        assert read(json.loads(json.dumps(found.resolved()))) == found
    else:
        assert found
        assert all(str(problem) for problem in found)
