"""Long chains: their laws, what they are judged by, and that they go on where they were ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm_core import checkpoint, preset
from ebm_core.__main__ import main
from ebm_core.acceptance import TARGET, tuned_epsilon
from ebm_core.config import make_config
from ebm_core.data import Samples
from ebm_core.document import read_document
from ebm_core.errors import CheckpointError
from ebm_core.langevin import autograd_gradient, stationary_variance
from ebm_core.readings import reading_steps
from ebm_core.sampling import LongChains, Wanted
from ebm_core.trainer import Trainer

EPSILON, SD = 0.3, 0.5
FILES = {"chains.npz", "curves.npz", "curves.png", "long_run.yaml", "progress.pt", "states.png"}


class Gaussian(nn.Module):
    """F of a Gaussian of sd SD in 16 dimensions, at the temperature of EPSILON."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(EPSILON**2 / 4 / SD**2))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.flatten(1).square().sum(1)


@pytest.fixture(scope="module")
def gaussian() -> Trainer:
    data = Samples(SD * torch.randn(2_000, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    config = preset(
        "digits", epsilon=EPSILON, gamma_0=0.0, gamma_start=None, anneal_updates=0,
        updates=200, window=100, bank_size=512, bank_start="data", device="cpu",
    )  # fmt: skip
    trainer = Trainer([config], Gaussian, data)
    trainer.run(config.updates)
    return trainer


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = preset("digits", updates=120, window=60, anneal_updates=0, device="cpu")
    trainer = Trainer([config])
    trainer.run(config.updates)
    return trainer.save(tmp_path_factory.mktemp("run") / "checkpoint.pt").parent


def ended(trainer: Trainer, wanted: Wanted) -> LongChains:
    chains = LongChains(trainer.result(), trainer.dataset, wanted)
    while not chains.finished:
        chains.advance()
    return chains


def variance(chains: LongChains) -> tuple[float, float]:
    """Of all coordinates, which are independent here, and its standard error."""
    x = chains.x.double().flatten()
    found = float(x.square().mean())
    return found, found * (2 / len(x)) ** 0.5


# -- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("epsilon", [None, 0.2])
def test_unadjusted_chains_have_the_law_of_their_discretization(
    gaussian: Trainer, temperature: float, epsilon: float | None
) -> None:
    wanted = Wanted(("noise",), 500, 300, temperature=temperature, epsilon=epsilon)
    found, error = variance(ended(gaussian, wanted))
    law = stationary_variance(temperature * SD**2, epsilon or EPSILON)
    assert abs(found - law) < 4 * error


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_adjusted_chains_have_the_target_as_their_law_at_any_tuned_epsilon(
    gaussian: Trainer, temperature: float
) -> None:
    wanted = Wanted(("noise",), 500, 300, True, tuned=True, temperature=temperature)
    chains = ended(gaussian, wanted)
    found, error = variance(chains)
    assert abs(found - temperature * SD**2) < 4 * error
    assert chains.epsilon > EPSILON  # which is small for 16 dimensions
    assert abs(chains.acceptance()["noise"].mean() - TARGET) < 0.03


def test_tuning_leaves_the_chains_where_they_are_and_repeats() -> None:
    energy = Gaussian().double()
    gradient, x = autograd_gradient(energy), torch.zeros(64, 1, 4, 4, dtype=torch.float64)

    def tuned() -> float:
        rng = torch.Generator().manual_seed(0)
        return tuned_epsilon(energy, gradient, x, EPSILON, 1.0, rng)

    assert tuned() == tuned()
    assert not x.any()


def test_energies_are_those_of_the_training_at_any_temperature(gaussian: Trainer) -> None:
    chains = ended(gaussian, Wanted(("data",), 8, 20, epsilon=0.1, temperature=3.0))
    with torch.no_grad():
        nats = gaussian.result().energy(chains.x) / (EPSILON**2 / 2)
    np.testing.assert_allclose(chains.energies()["data"][:, -1], nats, rtol=1e-5)


# -- judgement -----------------------------------------------------------------------------------


def test_chains_that_stay_hold_and_those_of_another_model_depart(gaussian: Trainer) -> None:
    wanted = Wanted(("bank", "data", "noise"), 256, 500)
    stays = ended(gaussian, wanted).long_run()
    assert stays.outcome == "holds"
    assert set(stays.effects) == {"bank", "data", "noise"}
    result = gaussian.result()
    with torch.no_grad():
        result.energy.weight *= 0.02  # so wide that 30 steps from the bank come nowhere near
    chains = LongChains(result, gaussian.dataset, wanted)
    while not chains.finished:
        chains.advance()
    assert chains.long_run().outcome == "departs"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"starts": ("noise",)}, "chains from noise alone decide nothing"),
        ({"adjusted": True}, "asked of unadjusted chains"),
        ({"temperature": 0.9}, "asked of unadjusted chains"),
        ({"epsilon": 0.1}, "asked of unadjusted chains"),
        ({"chains": 1}, "the spread of one chain"),
    ],
)
def test_chains_that_cannot_judge_say_why(gaussian: Trainer, change: dict, why: str) -> None:
    found = ended(gaussian, Wanted(**{"chains": 4, "steps": 5, **change})).long_run()
    assert found.outcome == "not_run"
    assert why in found.reason


def test_data_alone_judge_as_well(gaussian: Trainer) -> None:
    found = ended(gaussian, Wanted(("data",), 64, 100)).long_run()
    assert found.outcome == "holds"
    assert np.isfinite(found.drift)


# -- to go on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 100, 1_000, 100_000, 1_000_003])
def test_portions_end_with_the_chains_and_stay_short(steps: int) -> None:
    edges = reading_steps(steps, 500)
    assert edges[0] == 0
    assert edges[-1] == steps
    assert min(np.diff(edges)) > 0
    assert max(np.diff(edges)) <= 500


@pytest.mark.parametrize("adjusted", [False, True])
def test_what_goes_on_comes_to_the_same_states(
    gaussian: Trainer, adjusted: bool, tmp_path: Path
) -> None:
    wanted = Wanted(("data", "noise"), 16, 200, adjusted, tuned=adjusted)
    whole = ended(gaussian, wanted)
    begun = LongChains(gaussian.result(), gaussian.dataset, wanted)
    for _ in range(7):
        begun.advance()
    kept = checkpoint.load(checkpoint.save(begun.state(), tmp_path / "progress.pt"))
    again = LongChains(gaussian.result(), gaussian.dataset, wanted)
    again.load_state(kept)
    assert again.steps == begun.steps
    while not again.finished:
        again.advance()
    assert torch.equal(whole.x, again.x)
    for name in ("energies", "magnitudes", "acceptance"):
        for start in wanted.starts:
            np.testing.assert_array_equal(
                getattr(whole, name)()[start], getattr(again, name)()[start]
            )
    assert [step for step, _ in again.shown()] == [step for step, _ in whole.shown()]


def test_other_chains_are_refused_by_name(gaussian: Trainer) -> None:
    result, data = gaussian.result(), gaussian.dataset
    kept = LongChains(result, data, Wanted(steps=50)).state()
    with pytest.raises(CheckpointError, match=r"steps 50 there, 60 here, seed 0 there, 1 here"):
        LongChains(result, data, Wanted(steps=60, seed=1)).load_state(kept)
    with torch.no_grad():
        result.energy.weight *= 1.5
    with pytest.raises(CheckpointError, match="those of another model"):
        LongChains(result, data, Wanted(steps=50)).load_state(kept)


# -- the command ---------------------------------------------------------------------------------


def sample(run: Path, out: Path, *options: object) -> int:
    words = ["sample", run, "--chains", 16, "--quiet", "--out", out, *options]
    return main([str(word) for word in words])


def states(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "chains.npz") as content:
        return dict(content)


def test_a_folder_gets_everything_and_says_the_verdict(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "long"
    assert sample(digits, out, "--start", "data", "noise", "--steps", 60) == 0
    said = capsys.readouterr().out
    assert "16 chains from data: 60 unadjusted steps at ε = 0.08" in said
    assert "16 chains from noise" in said
    assert "  long run     " in said
    assert {path.name for path in out.iterdir()} == FILES | {"worth.yaml"}
    found = states(out)
    assert found["x"].shape == (32, 1, 8, 8)
    assert found["start"].tolist() == ["data"] * 16 + ["noise"] * 16
    assert read_document(out / "long_run.yaml")["steps"] == 60
    # again: nothing is left to do, and the answer is the same
    assert sample(digits, out, "--start", "data", "noise", "--steps", 60) == 0
    repeated = capsys.readouterr().out
    assert "finished before" in repeated
    assert said.splitlines()[:-1] == repeated.splitlines()[1:-1]
    np.testing.assert_array_equal(states(out)["x"], found["x"])


def test_each_start_is_told_what_its_chains_are_worth(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "long"
    assert sample(digits, out, "--start", "data", "noise", "--steps", 20) == 0
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said.count("nearest") == said.count("grain") == 2
    assert "held" not in said
    worth, found = read_document(out / "worth.yaml"), states(out)
    assert list(worth) == ["data", "noise"]
    for start, each in worth.items():
        own = np.sort(found["nearest"][found["start"] == start])
        assert own[7] == pytest.approx(each["memorization"]["median"])  # the lower of two
        assert each["held_out"] is None
    # uniform noise that 20 steps have not undone
    ratio = worth["noise"]["memorization"]["median"] / worth["data"]["memorization"]["median"]
    assert ratio > 2
    assert worth["noise"]["sharpness"]["samples"] > 2 * worth["data"]["sharpness"]["samples"]


def test_data_that_are_held_out_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"name": "digits", "held_out": 0.2}
    config = preset("digits", data=held, updates=20, window=20, anneal_updates=0, device="cpu")
    trainer = Trainer([config])
    trainer.run(config.updates)
    trainer.save(tmp_path / "checkpoint.pt")
    assert sample(tmp_path, tmp_path / "long", "--start", "data", "--steps", 20) == 0
    assert "  held out     U " in capsys.readouterr().out
    told = read_document(tmp_path / "long" / "worth.yaml")["data"]["held_out"]
    # what was hardly learned is not known by heart
    assert abs(told["over_seen"]) < 4 * told["over_seen_error"]
    assert told["over_seen_error"] < 0.1


def test_killed_chains_come_to_the_same_states(digits: Path, tmp_path: Path) -> None:
    options = ("--start", "data", "noise", "--steps", "30000")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert sample(digits, whole, *options) == 0
    program = (
        "import sys, torch; torch.set_num_threads(1); import ebm_core.commands.sample as s; "
        "s._SAVED_SECONDS = 0.2; from ebm_core.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["sample", str(digits), "--chains", "16", "--quiet", "--out", str(killed), *options]
    process = subprocess.Popen([sys.executable, "-c", program, *words])
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.exists(killed / "progress.pt"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (killed / "chains.npz").exists()  # or it had ended before the signal came
    assert 0 < checkpoint.load_newest(killed / "progress.pt")[0]["done"] < 200
    assert sample(digits, killed, *options) == 0
    for name, values in states(whole).items():
        np.testing.assert_array_equal(states(killed)[name], values)


def test_tuned_adjusted_chains_say_at_what_they_run(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--adjusted", "--epsilon", "tuned", "--temperature", 0.8, "--steps", 40)
    assert sample(digits, tmp_path / "states.npz", *options) == 0
    said = capsys.readouterr().out
    assert "40 Metropolis-adjusted steps at ε = " in said
    assert "(tuned), 0.8 times the temperature" in said
    assert "not run: it is asked of unadjusted chains" in said
    assert [path.name for path in tmp_path.iterdir()] == ["states.npz"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epsilon", "tuned"), "--epsilon: must be a number without --adjusted"),
        (("--steps", "61", "--start", "data"), "other chains are kept there: starts"),
    ],
)
def test_what_does_not_fit_is_told(
    digits: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "long"
    assert sample(digits, out, "--steps", 20) == 0
    assert sample(digits, out, *options) == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_made(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = LongChains.advance

    def pressed(chains: LongChains) -> None:
        made(chains)
        if chains.done == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LongChains, "advance", pressed)
    out = tmp_path / "long"
    assert sample(digits, out, "--steps", 100) == 130
    assert "interrupted after 15 of 100 steps\nthe same command goes on" in capsys.readouterr().out
    assert sample(digits, out, "--steps", 100) == 0
    assert "going on after 15 steps" in capsys.readouterr().out


def test_what_cannot_be_written_is_refused_before_any_step(
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_step(_: LongChains) -> None:
        raise AssertionError("nothing is to be sampled here")

    monkeypatch.setattr(LongChains, "advance", no_step)
    (tmp_path / "folder.npz").mkdir()
    for out in (tmp_path / "folder.npz", tmp_path / "nowhere" / "x.npz"):
        assert sample(digits, out, "--steps", 10) == 2
        assert "--out: must be a file to write to" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_progress_of_chains_is_refused(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "progress.pt").write_bytes((digits / "checkpoint.pt").read_bytes())
    assert sample(digits, tmp_path, "--steps", 10) == 2
    assert "progress.pt: " in capsys.readouterr().err


def test_a_model_that_broke_down_is_sampled_without_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = preset(
        "digits", gamma_0=1e30, gamma_start=None, anneal_updates=0, updates=30, window=20,
        device="cpu",
    )  # fmt: skip
    trainer = Trainer([config])
    trainer.run(config.updates)
    trainer.save(tmp_path / "checkpoint.pt")
    assert trainer.result().assessment.verdict == "diverged"
    assert sample(tmp_path, tmp_path / "long", "--steps", 30) == 0
    said = capsys.readouterr().out
    assert "learning diverged" in said
    assert "nearest" not in said
    assert {path.name for path in (tmp_path / "long").iterdir()} == FILES


def test_a_plane_is_drawn_as_dots(tmp_path: Path) -> None:
    values = {"data": "gmm", "network": {"name": "toy", "widths": [8]}, "epsilon": 0.1}
    sizes = {"langevin_steps": 5, "batch_size": 16, "bank_size": 32, "updates": 60, "window": 40}
    trainer = Trainer([make_config({**values, **sizes, "device": "cpu"})])
    trainer.run(60)
    trainer.save(tmp_path / "checkpoint.pt")
    assert sample(tmp_path, tmp_path / "long", "--steps", 20) == 0
    assert {path.name for path in (tmp_path / "long").iterdir()} == FILES
