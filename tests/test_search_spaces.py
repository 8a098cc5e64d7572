"""The shipped studies are valid, say how they are run, and ask what they say they ask."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebm_core.presets import preset, preset_names
from study import space
from study.spec import StudySpec, from_resolved, load_study, warnings

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shipped(name: str, **overrides: str) -> StudySpec:
    return load_study(ROOT / "search_spaces" / f"{name}.yaml", overrides)


def values(spec: StudySpec, parameter: str) -> list[Any]:
    return spec.parameters[parameter].grid()


def test_all_studies_are_there() -> None:
    assert [path.stem for path in FILES] == [
        "agreement_digits",
        "agreement_gmm",
        "agreement_rings",
        "annealing",
        "collapse",
        "convergent_region",
        "dimension",
        "eps_data_ratio",
        "eps_sweep",
        "gamma_0",
        "gmm_eps_sweep",
        "published_cifar10_nonconvergent",
        "published_cifar10_oscillating",
        "published_flowers_convergent",
        "published_flowers_nonconvergent",
        "published_gmm_convergent",
        "published_gmm_nonconvergent",
        "published_mnist_convergent",
        "published_rings_convergent",
        "published_rings_nonconvergent",
        "realistic_digits",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_opens_with_its_command_and_its_duration(path: Path) -> None:
    comment = re.match(r"(#.*\n)+", path.read_text())
    assert comment is not None
    first, second, *rest = comment[0].splitlines()
    assert first.startswith(f"# python -m study.run search_spaces/{path.name}")
    assert second == "#"
    assert re.search(r"minutes|hours|[Dd]ays", " ".join(rest))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_is_valid_and_named_like_its_file(path: Path) -> None:
    spec = load_study(path)
    assert spec.name == path.stem
    assert from_resolved(json.loads(json.dumps(spec.resolved(), allow_nan=False))) == spec
    for point in space.probe_points(spec.parameters):
        assert spec.config(point, spec.seeds - 1).seed == spec.seeds - 1


PUBLISHED = [path for path in FILES if path.stem.startswith("published_")]
IMAGES = {
    "mnist": ("ylecun/mnist", "train", "image", (1, 32, 32)),
    "flowers": ("nkirschi/oxford-flowers", "train+test", "image", (3, 32, 32)),
    "cifar10": ("uoft-cs/cifar10", "train", "img", (3, 32, 32)),
}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_run_is_its_preset_on_its_data(path: Path) -> None:
    spec = load_study(path)
    run = path.stem.removeprefix("published_")
    (epsilon,) = values(spec, "epsilon")
    config, published = spec.config({"epsilon": epsilon}, 0), preset(run)
    same = {"data": published.data, "device": published.device}
    assert config.with_(**same) == published
    assert (spec.method, spec.trials, spec.seeds) == ("grid", 1, 1)
    assert spec.long_run.steps == 100_000
    data = config.data
    if data.name == "hugging_face":
        found = (data.dataset, data.split, data.column, data.shape)
        assert found == IMAGES[run.partition("_")[0]]
        assert (config.device, spec.resources.gpus_per_trial) == ("cuda", 1.0)
    else:
        assert data == published.data


def test_every_published_run_has_its_study() -> None:
    runs = set(preset_names()) - {"digits", "digits_strong"}
    assert {path.stem for path in PUBLISHED} == {f"published_{run}" for run in runs}


def shrunk(path: Path) -> dict[str, str]:
    """What the comment of a published run sets for a look on a CPU."""
    comment = re.match(r"(#.*\n)+", path.read_text())
    assert comment is not None
    (line,) = re.findall(r"^#   --set (.*(?:\n#     .*)*)", comment[0], re.MULTILINE)
    words = shlex.split(line.replace("\\\n#", " "))
    return dict(word.split("=", 1) for word in words)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_run_can_be_shrunk_to_minutes_on_a_cpu(path: Path) -> None:
    spec = load_study(path, shrunk(path))
    (epsilon,) = values(spec, "epsilon")
    config, published = (
        spec.config({"epsilon": epsilon}, 0),
        preset(path.stem.removeprefix("published_")),
    )
    assert spec.name == path.stem.replace("published", "small")
    assert (config.device, spec.resources.gpus_per_trial, warnings(spec)) == ("cpu", 0, [])
    assert config.data.name in ("gmm", "rings", "digits", "patches")
    # what it learns, and how, is what was published
    assert config.data.shape == published.data.shape
    for kept in ("network", "epsilon", "eps_data_ratio", "chain_start", "optimizer", "gamma_0"):
        assert getattr(config, kept) == getattr(published, kept)
    work = config.updates * config.langevin_steps * config.batch_size
    assert work < 1e8 if config.data.shape == (2,) else work < 1e5


def test_only_what_is_meant_is_warned_of() -> None:
    low_noise = ["eps_data_ratio falls to"]
    no_annealing = "anneal_updates has no effect at"
    expected = {
        "eps_data_ratio": low_noise,
        "convergent_region": low_noise,
        "collapse": low_noise,
        "agreement_digits": [*low_noise, no_annealing],
        "agreement_gmm": [*low_noise, no_annealing],
        "agreement_rings": [*low_noise, no_annealing],
        "gmm_eps_sweep": ["anneal_updates has no effect at epsilon=0.01, gamma_0=0.1"],
        "realistic_digits": [f"{no_annealing} gamma_0=0.002"],
    }
    for path in FILES:
        told = warnings(load_study(path))
        starts = expected.get(path.stem, [])
        assert len(told) == len(starts)
        assert all(text.startswith(start) for text, start in zip(told, starts, strict=True))


def test_the_epsilon_sweep_is_what_the_readme_says() -> None:
    spec = shipped("eps_sweep")
    assert (spec.method, spec.trials, spec.seeds) == ("tpe", 16, 1)
    assert spec.first_points == ({"epsilon": 0.08},)
    config = spec.config({"epsilon": 0.1}, 0)
    assert (config.network.model_dump()["widths"], config.langevin_steps) == ((96, 96), 30)
    assert (config.updates, config.start_rate, config.gamma_0) == (2000, 0.1, 0.005)
    assert (config.eps_data_ratio, config.anneal_updates) == (2.0, 1000)


def test_gamma_0_is_kept_and_crosses_the_edge() -> None:
    spec = shipped("gamma_0")
    assert {0.05, 0.4, 0.45, 0.5, 0.7} <= set(values(spec, "gamma_0"))
    assert (spec.method, spec.seeds, spec.trials) == ("grid", 3, 9)
    config = spec.config({"gamma_0": 0.3}, 2)
    assert (config.epsilon, config.start_rate, config.annealing_active) == (0.08, 0.3, False)


def test_annealing_is_compared_with_none_at_equal_updates() -> None:
    spec = shipped("annealing")
    lengths = values(spec, "anneal_updates")
    configs = [spec.config({"anneal_updates": length}, 0) for length in lengths]
    assert lengths[0] == 0
    assert {config.updates for config in configs} == {3000}
    assert [config.annealing_active for config in configs] == [False, *[True] * 6]
    assert (configs[0].start_rate, configs[1].start_rate) == (0.005, 0.1)


def test_the_region_has_all_four_axes() -> None:
    spec = shipped("convergent_region")
    assert set(space.searched(spec.parameters)) == {
        "epsilon",
        "eps_data_ratio",
        "gamma_0",
        "anneal_updates",
    }
    assert (spec.method, spec.trials) == ("boundary", 64)
    points = space.sobol_points(spec.parameters, spec.trials, spec.seed)
    configs = [spec.config(point, 0) for point in points]
    assert all(config.gamma_start is None for config in configs)
    assert {config.gamma_start_ratio for config in configs} == {10}
    assert {config.anneal_updates for config in configs} >= {0, 600, 1200}


def test_the_plane_sweep_is_the_measured_one() -> None:
    spec = shipped("gmm_eps_sweep")
    assert {0.01, 0.03, 0.06, 0.125, 0.2} <= set(values(spec, "epsilon"))
    config = spec.config({"epsilon": 0.06, "gamma_0": 0.1}, 0)
    annealed = spec.config({"epsilon": 0.06, "gamma_0": 0.005}, 0)
    assert (annealed.start_rate, annealed.anneal_updates, annealed.updates) == (0.1, 1500, 2500)
    assert config.data.model_dump() == {"name": "gmm", "modes": 8, "radius": 1.0, "sd": 0.15}
    assert (config.network.name, config.batch_size, config.bank_size) == ("toy", 100, 10_000)
    assert (config.langevin_steps, config.updates) == (60, 2500)
    assert (config.optimizer, config.gamma_0, config.annealing_active) == ("sgd", 0.1, False)
    assert config.eps_data_ratio == 0


def test_validating_loads_no_heavy_library() -> None:
    code = """
import sys
from pathlib import Path
from study.spec import load_study, warnings
for path in sorted(Path("search_spaces").glob("*.yaml")):
    warnings(load_study(path))
heavy = "torch ray mlflow optuna numpy scipy pandas sklearn matplotlib".split()
assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("digits", 0.5, 4.0), ("gmm", 0.0, 2.0), ("rings", 0.0, 2.0)]
)
def test_agreement_is_judged_on_an_even_cover_of_the_four_axes(
    name: str, least: float, most: float
) -> None:
    spec = shipped(f"agreement_{name}")
    points = space.sobol_points(spec.parameters, spec.trials, spec.seed)
    configs = [spec.config(point, 0) for point in points]
    assert (spec.method, len(configs)) == ("sobol", 96)
    for axis, low, high in (
        ("epsilon", 0.02, 0.2),
        ("eps_data_ratio", least, most),
        ("gamma_0", 0.005, 0.4),
    ):
        values = [getattr(config, axis) for config in configs]
        assert low <= min(values) <= low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) <= max(values) <= high
    assert max(config.anneal_updates for config in configs) <= configs[0].updates / 2
    assert spec.long_run.steps == 2000


def test_dimension_is_all_that_differs_between_data() -> None:
    spec = shipped("dimension")
    points = [{"data": data, "gamma_0": 0.1} for data in values(spec, "data")]
    configs = [spec.config(point, 0) for point in points]
    assert [config.data.shape for config in configs] == [(2,), (1, 4, 4), (1, 8, 8), (1, 16, 16)]
    assert len({config.with_(data="digits") for config in configs}) == 1
    # a first layer that is narrower than the data leaves directions without an energy
    assert min(configs[0].network.widths[:1]) >= 16 * 16
