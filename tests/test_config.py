"""`TrainConfig`: what is refused and in which words, and what follows from what is accepted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ebm_core.config import (
    DATA_KINDS,
    MEMBER_FIELDS,
    NETWORK_KINDS,
    Band,
    TrainConfig,
    file_problems,
    flatten,
    make_config,
    override,
    pack_problems,
)
from ebm_core.errors import ConfigError, Problem
from ebm_core.sections import IMAGE_SIZES, network_problems

VALID: dict[str, Any] = {
    "data": "digits",
    "network": "mlp",
    "epsilon": 0.08,
    "updates": 400,
    "window": 100,
    "batch_size": 10,
    "bank_size": 50,
}


def config(**changes: Any) -> TrainConfig:
    return make_config({**VALID, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0}, "epsilon: must be greater than 0, got 0"),
        ({"epsilon": -0.1}, "epsilon: must be greater than 0, got -0.1"),
        ({"epsilon": "wide"}, "epsilon: must be a valid number, got 'wide'"),
        ({"epsilon": None}, "epsilon: must be a valid number, got None"),
        ({"epsilon": float("nan")}, "epsilon: must be a finite number, got nan"),
        ({"epsilon": float("inf")}, "epsilon: must be a finite number, got inf"),
        ({"epsilon": True}, "epsilon: must not be true or false, got True"),
        ({"updates": True}, "updates: must not be true or false, got True"),
        ({"updates": 10.5}, "updates: must be a valid integer, got 10.5"),
        ({"updates": 0}, "updates: must be greater than 0, got 0"),
        ({"gamma_0": -1}, "gamma_0: must be greater than or equal to 0, got -1"),
        ({"gamma_start_ratio": 0.5}, "gamma_start_ratio: must be greater than or equal to 1, got"),
        ({"epsilon": 9e-19}, "epsilon: must be at least 1e-18, since its square must not vanish"),
        (
            {"epsilon": 9e-154, "precision": "float64"},
            "must not vanish in float64, got 9e-154",
        ),
        ({"epsilon": 2e18}, "epsilon: must be at most 1e+18, since its square must be finite in"),
        (
            {"epsilon": 2e153, "precision": "float64"},
            "epsilon: must be at most 1e+153, since its square must be finite in float64, got",
        ),
        ({"init_scale": 10**400}, "init_scale: must be a number greater than 0, or auto, got 1"),
        ({"updates": 2**31}, "updates: must be less than or equal to 2147483647, got 2147483648"),
        ({"window": 10**30}, "window: must be less than or equal to 2147483647, got 1"),
        ({"device": "cuda:1000"}, "device: must match pattern"),
        (
            {"data": {"name": "array", "path": ""}},
            "data.path: must be a path without control characters, got ''",
        ),
        (
            {"network": {"name": "subprocess:run", "arguments": {"args": "true"}}},
            "network.name: must be a module of your own, not one of Python's library, got",
        ),
        (
            {"network": {"name": "mlp", "widths": [0] * 101}},
            "network.widths: must not have more than 100 entries, got [0",
        ),
        ({"start_scale": 1e300}, "start_scale: must be less than or equal to 1000000, got 1e+300"),
        ({"reinit_share": 1.5}, "reinit_share: must be less than or equal to 1, got 1.5"),
        ({"seed": -1}, "seed: must be greater than or equal to 0, got -1"),
        ({"init_scale": 0}, "init_scale: must be a number greater than 0, or auto, got 0"),
        ({"init_scale": -1}, "init_scale: must be a number greater than 0, or auto, got -1"),
        (
            {"init_scale": "atuo"},
            "init_scale: must be a number greater than 0, or auto, got 'atuo'",
        ),
        (
            {"init_scale": math.inf},
            "init_scale: must be a number greater than 0, or auto, got inf",
        ),
        ({"init_scale": [1]}, "init_scale: must be a number greater than 0, or auto, got [1]"),
        ({"init_scale": True}, "init_scale: must not be true or false, got True"),
        ({"window": 5}, "window: must be greater than or equal to 20, got 5"),
        ({"optimizer": "adma"}, "optimizer: must be one of sgd, adam, got 'adma'; did you mean"),
        ({"optimizer": 3}, "optimizer: must be one of sgd, adam, got 3"),
        (
            {"precision": "float16"},
            "precision: must be one of float32, float64, tf32, bfloat16, got 'float16'",
        ),
        (
            {"epsilon": 9e-19, "precision": "bfloat16"},
            "must not vanish in float32, got 9e-19",
        ),
        ({"device": "gpu"}, "device: must match pattern"),
        ({"epsilonn": 1}, "epsilonn: unknown key, got 1; did you mean `epsilon`?"),
        ({"zzzzz": 1}, "zzzzz: unknown key, got 1"),
        (
            {"data": "digts"},
            "data: must be one of gmm, rings, digits, patches, array, image_folder, hugging_face, "
            "got 'digts'; "
            "did you mean `digits`?",
        ),
        (
            {"data": 3},
            "data: must be one of gmm, rings, digits, patches, array, image_folder, hugging_face, "
            "got 3",
        ),
        ({"data": {"size": 8}}, "got {'size': 8}"),
        ({"data": "my.module:Data"}, "got 'my.module:Data'"),
        (
            {"data": {"name": "digits", "siz": 8}},
            "data.siz: unknown key, got 8; did you mean `siz",
        ),
        ({"data": {"name": "digits", "size": 2}}, "data.size: must be greater than or equal to 4"),
        ({"data": {"name": "image_folder"}}, "data.path: required, but not given"),
        (
            {"data": {"name": "image_folder", "path": ".", "channels": 2}},
            "data.channels: must be 1 or 3, got 2",
        ),
        (
            {"network": "vanila"},
            "network: must be one of toy, mlp, vanilla, nonlocal, got 'vanila'",
        ),
        ({"network": {"name": "mlp", "widths": []}}, "network.widths: must have at least 1 item"),
        ({"network": {"name": "mlp", "widths": [4, 0]}}, "network.widths.1: must be greater than"),
        ({"network": {"name": "mlp", "slop": 0.1}}, "unknown key, got 0.1; did you mean `slope`?"),
        ({"network": {"name": "not a path:x"}}, "network.name: must match pattern"),
        ({"network": "toy"}, "network: toy takes data of shape (2,), not (1, 8, 8); use mlp"),
        (
            {"network": "vanilla", "data": {"name": "digits", "size": 12}},
            "data.size: vanilla takes square images of 8, 16, 32, 64 pixels, got '12x12'",
        ),
        (
            {"network": "nonlocal", "data": "gmm"},
            "network: takes images, but a sample has shape (2,), got 'nonlocal'",
        ),
        ({"band": {"low": 2, "high": 1}}, "band.low: `low < high` must hold, got high=1.0, got 2"),
        ({"band": {"unit": "mached"}}, "band.unit: must be one of matched, scaled, absolute, got"),
        ({"band": {"lo": 1}}, "band.lo: unknown key, got 1; did you mean `low`?"),
        (
            {"gamma_start": 0.1, "gamma_start_ratio": 20},
            "gamma_start_ratio: give `gamma_start` or `gamma_start_ratio`, not both, got 20",
        ),
        ({"eps_data_ratio": 0}, "eps_data_ratio: must be over 0 for a finite data set"),
        (
            {"anneal_updates": 301},
            "anneal_updates: `anneal_updates + window <= updates` must hold "
            "(window=100, updates=400), got 301",
        ),
        ({"updates": 50}, "window: `window <= updates` must hold (updates=50), got 100"),
        ({"bank_size": 9}, "bank_size: must be at least batch_size (10)"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({**VALID, **changes}, source="run.yaml")
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)
    assert str(caught.value).startswith("run.yaml: ")


@pytest.mark.parametrize(("precision", "least"), [("float32", 1e-18), ("float64", 1e-153)])
def test_the_temperature_of_the_least_epsilon_is_a_number(precision: str, least: float) -> None:
    found = config(epsilon=least, precision=precision)
    limits = np.finfo(precision)
    assert limits.tiny < found.temperature < 1e-35
    with pytest.raises(ConfigError, match="epsilon: must be at least"):
        found.with_(epsilon=least / 2)


@pytest.mark.parametrize("key", ["data", "network", "epsilon"])
def test_required(key: str) -> None:
    values = {k: v for k, v in VALID.items() if k != key}
    with pytest.raises(ConfigError, match=f"^{key}: required, but not given$"):
        make_config(values)


def test_all_problems_come_together_rules_between_fields_included() -> None:
    broken = {
        "data": {"name": "digits", "size": 8},
        "network": "vanila",
        "epsilon": -1,
        "epsilonn": 1,
        "eps_data_ratio": 0,
        "anneal_updates": 400,
        "updates": 400,
        "window": 100,
        "band": {"low": 3, "high": 2},
        "bank_size": 5,
        "batch_size": 10,
    }
    with pytest.raises(ConfigError) as caught:
        make_config(broken)
    assert sorted(problem.key for problem in caught.value.problems) == [
        "anneal_updates",
        "band.low",
        "bank_size",
        "eps_data_ratio",
        "epsilon",
        "epsilonn",
        "network",
    ]


def test_a_rule_between_fields_is_silent_where_one_of_them_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({**VALID, "updates": "many", "anneal_updates": 10**6})
    assert [problem.key for problem in caught.value.problems] == ["updates"]


def test_names_stand_for_their_options() -> None:
    assert config(data="digits") == config(data={"name": "digits", "size": 8})
    assert config(network="mlp").network == config(network={"name": "mlp"}).network
    custom = config(network={"name": "package.module:Net", "arguments": {"width": 3}}).network
    assert custom.name == "package.module:Net"


def test_kinds_are_keyed_by_their_names() -> None:
    for kinds in (DATA_KINDS, NETWORK_KINDS):
        assert all(kind.model_fields["name"].default == name for name, kind in kinds.items())


def test_numbers_that_yaml_reads_as_floats_may_be_whole() -> None:
    assert config(updates=4e2).updates == 400


def test_a_configuration_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config().epsilon = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        config().band.low = 1.0


def test_flat_names_every_field_and_holds_plain_values() -> None:
    flat = config(network={"name": "mlp", "widths": [3, 4]}).flat()
    assert flat["network.widths"] == [3, 4]
    assert flat["band.unit"] == "matched"
    assert flat["data.name"] == "digits"
    top = {name.partition(".")[0] for name in flat}
    assert top == set(TrainConfig.model_fields)
    assert all(isinstance(v, int | float | str | list | None) for v in flat.values())


def test_flatten_keeps_an_empty_mapping_as_a_value() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": 2}) == {"a.b": 1, "a.c": {}, "d": 2}


def test_values_survive_being_written_out() -> None:
    one = config(epsilon=0.1 + 0.2, gamma_start=1 / 3, anneal_updates=7)
    assert make_config(one.model_dump(mode="json")) == one


def test_with_changes_a_copy_and_validates_it() -> None:
    one = config()
    two = one.with_(epsilon=0.5, band={"unit": "scaled"})
    assert (one.epsilon, two.epsilon, two.band.unit) == (0.08, 0.5, "scaled")
    with pytest.raises(ConfigError, match="epsilon: must be greater than 0, got 0"):
        one.with_(epsilon=0)


def test_one_way_to_give_the_rate_at_the_start_drops_the_other() -> None:
    one = config(gamma_0=0.01, gamma_start=0.1, anneal_updates=100)
    two = one.with_(gamma_start_ratio=4)
    assert (two.gamma_start, two.start_rate) == (None, 0.04)
    assert two.with_(gamma_start=0.3).gamma_start_ratio is None
    assert override({"gamma_start": 1, "epsilon": 2}, {"epsilon": 3}) == {
        "gamma_start": 1,
        "epsilon": 3,
    }


@pytest.mark.parametrize(
    ("changes", "start", "active", "constant_from"),
    [
        ({"gamma_0": 0.01}, 0.01, False, 0),
        ({"gamma_0": 0.01, "gamma_start": 0.1}, 0.01, False, 0),
        ({"gamma_0": 0.01, "gamma_start": 0.1, "anneal_updates": 50}, 0.1, True, 50),
        ({"gamma_0": 0.01, "gamma_start_ratio": 3, "anneal_updates": 50}, 0.03, True, 50),
        ({"gamma_0": 0.01, "gamma_start": 0.001, "anneal_updates": 50}, 0.01, False, 0),
        ({"gamma_0": 0.01, "gamma_start_ratio": 1, "anneal_updates": 50}, 0.01, False, 0),
        ({"gamma_0": 0.0, "gamma_start": 0.1, "anneal_updates": 50}, 0.1, True, 50),
    ],
)
def test_annealing(
    changes: dict[str, Any], start: float, active: bool, constant_from: int
) -> None:
    one = config(**changes)
    assert one.start_rate == pytest.approx(start)
    assert (one.annealing_active, one.constant_from) == (active, constant_from)


@pytest.mark.parametrize(
    ("given", "kept"), [("auto", "auto"), (2, 2.0), (0.5, 0.5), ("1e-3", 0.001)]
)
def test_init_scale_is_a_number_or_auto(given: Any, kept: Any) -> None:
    one = config(init_scale=given)
    assert one.init_scale == kept
    assert type(one.init_scale) is type(kept)
    assert make_config(one.model_dump(mode="json")) == one
    assert one.flat()["init_scale"] == kept


def test_derived_numbers() -> None:
    one = config(epsilon=0.1, eps_data_ratio=2.5)
    assert one.data_epsilon == pytest.approx(0.25)
    assert one.temperature == pytest.approx(0.005)
    assert one.burn_in_updates == 25
    assert one.with_(bank_size=51).burn_in_updates == 26
    assert one.with_(chain_start="uniform").burn_in_updates == 0


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ({}, (0.5, 1.4)),
        ({"unit": "scaled"}, (0.096, 0.180)),
        ({"unit": "absolute"}, (0.08, 0.15)),
        ({"unit": "scaled", "high": 0.3}, (0.096, 0.3)),
        ({"low": 0.5, "high": 2}, (0.5, 2.0)),
    ],
)
def test_the_ends_of_a_band_follow_its_unit(
    values: dict[str, Any], ends: tuple[float, float]
) -> None:
    band = Band.model_validate(values)
    assert (band.low, band.high) == ends


def test_the_scaled_band_is_the_printed_one_over_epsilon_and_root_n() -> None:
    printed, scaled = Band(unit="absolute"), Band(unit="scaled")
    size = 0.015 * (3 * 32 * 32) ** 0.5
    assert (printed.low / size, printed.high / size) == pytest.approx(
        (scaled.low, scaled.high), abs=1e-3
    )


@pytest.mark.parametrize("network", ["vanilla", "nonlocal"])
@pytest.mark.parametrize("size", [4, 7, 8, 12, 16, 24, 32, 48, 64, 72])
def test_image_sizes(network: str, size: int) -> None:
    value = NETWORK_KINDS[network]()
    assert bool(network_problems(value, (3, size, size))) != (size in IMAGE_SIZES[network])
    assert network_problems(value, (3, size, size + 8))


def test_files_that_are_missing_or_of_the_wrong_kind(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    file.touch()
    absent = str(tmp_path / "absent")

    def problems(name: str, path: str) -> list[Problem]:
        return file_problems(config(data={"name": name, "path": path}, network="mlp"))

    assert problems("array", str(file)) == []
    assert problems("image_folder", str(tmp_path)) == []
    assert file_problems(config()) == []
    assert problems("array", absent) == [Problem("data.path", "no such file or folder", absent)]
    assert problems("image_folder", str(file))[0].rule == "must be a folder"
    assert problems("array", str(tmp_path))[0].rule == "must be a file"


def test_a_pack_may_differ_where_no_shape_changes() -> None:
    members = [
        config(),
        config(
            epsilon=0.3,
            eps_data_ratio=1.5,
            gamma_0=0.2,
            gamma_start_ratio=2,
            anneal_updates=10,
            init_scale=2,
            seed=5,
            band={"unit": "scaled"},
        ),
        config(gamma_start=0.5),
    ]
    assert pack_problems(members) == []
    assert set(TrainConfig.model_fields) >= MEMBER_FIELDS


def test_a_pack_that_differs_elsewhere_is_told_where() -> None:
    members = [config(), config(network={"name": "mlp", "widths": [7]}, batch_size=20)]
    problems = pack_problems(members)
    assert [problem.key for problem in problems] == ["members.1.network", "members.1.batch_size"]
    assert "must equal that of member 0 (10) in one pack, got 20" in str(problems[1])
    assert pack_problems([])[0].rule == "a pack needs at least one member"


def test_a_part_can_be_named_with_its_size() -> None:
    word = make_config({"data": "digits@16", "network": "mlp", "epsilon": 0.1})
    mapping = {"name": "digits", "size": 16}
    assert word == make_config({"data": mapping, "network": "mlp", "epsilon": 0.1})
    for wrong, rule in (("digits@", "data"), ("digits@x", "data"), ("gmm@3", "data.size")):
        with pytest.raises(ConfigError, match=rf"^{rule}: "):
            make_config({"data": wrong, "network": "mlp", "epsilon": 0.1})
