"""``python -m ebm_core``: what it writes, that packs repeat, and how it answers bad input."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ebm_core import checkpoint
from ebm_core.__main__ import main
from ebm_core.artifacts import write_artifacts
from ebm_core.commands.wording import long_run_line
from ebm_core.config import make_config
from ebm_core.data import Gmm, Samples
from ebm_core.document import dump_yaml, read_document
from ebm_core.evaluate import check
from ebm_core.matched import matched_gradient
from ebm_core.pack import read_pack
from ebm_core.trainer import Trainer
from ebm_core.training import train, train_members

SMALL = {
    "data": "gmm",
    "network": {"name": "toy", "widths": [8, 8]},
    "epsilon": 0.1,
    "eps_data_ratio": 1.0,
    "gamma_0": 0.05,
    "langevin_steps": 5,
    "batch_size": 16,
    "bank_size": 32,
    "updates": 150,
    "window": 120,
    "checkpoint_interval": 40,
    "device": "cpu",
}
FILES = {"traces.npz", "config.yaml", "pack.yaml", "diagnostics.png", "checkpoint.pt"}
BEFORE = "checkpoint.previous.pt"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves pictures empty, which take longer than these trainings."""
    for name in ("diagnostics", "landscape", "samples"):
        monkeypatch.setattr(f"ebm_core.plots.{name}", lambda *_, **__: Blank())


class Blank:
    def savefig(self, path, format):  # noqa: A002
        Path(path).touch()


def write_config(path="small.yaml", **changes):
    Path(path).write_text(dump_yaml({**SMALL, **changes}))
    return str(path)


def traces(folder):
    with np.load(Path(folder) / "traces.npz") as content:
        return dict(content)


def files(folder="."):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def run(*arguments):
    return main([*map(str, arguments)])


# -- train ---------------------------------------------------------------------------------------


def test_train_writes_everything_and_says_the_verdict(capsys):
    assert run("train", "--config", write_config(), "--long-run", 50) == 0
    assert files("runs/small") == FILES | {"landscape.png", BEFORE}
    result = train(make_config(SMALL))
    found = traces("runs/small")
    assert list(found["update"]) == list(range(150))
    for name, series in (("d", result.d), ("r", result.r), ("r_rms", result.r_rms)):
        np.testing.assert_array_equal(found[name], series)
    said = capsys.readouterr()
    assert said.out.startswith(result.assessment.summary())
    for word in ("r  ", "d balance", "oscillation", "long run", "density", "written to"):
        assert word in said.out
    assert "150 of 150 updates" in said.err
    assert make_config(read_document("runs/small/config.yaml")) == make_config(SMALL)


@pytest.mark.usefixtures("undrawn")
def test_train_again_makes_a_new_folder_and_quiet_is_quiet(capsys):
    config = write_config(updates=20, window=20)
    for _ in range(2):
        assert run("train", "--config", config, "--quiet") == 0
    assert {path.name for path in Path("runs").iterdir()} == {"small", "small-2"}
    assert capsys.readouterr().err == ""


def test_preset_with_settings_writes_annealed_rates_and_samples():
    settings = ["updates=30", "window=20", "anneal_updates=10", "langevin_steps=2"]
    settings += ["network.widths=[8]", "data.size=12", "epsilon=1e-1", "gamma_start_ratio=10"]
    assert run("train", "--preset", "digits", "--out", "here", "--set", *settings) == 0
    assert files("here") == FILES | {"samples.png"}
    config = make_config(read_document("here/config.yaml"))
    assert (config.epsilon, config.data.size, config.network.widths) == (0.1, 12, (8,))
    # the preset's own gamma_start gives way
    gamma = traces("here")["gamma"]
    assert gamma[0] == pytest.approx(0.05)
    assert gamma[5] == pytest.approx(0.005 * 10**0.5)
    np.testing.assert_allclose(gamma[10:], 0.005)


@pytest.mark.usefixtures("undrawn")
def test_a_file_may_name_a_preset():
    Path("mine.yaml").write_text("preset: digits\nupdates: 25\nwindow: 20\nanneal_updates: 0\n")
    assert run("train", "--config", "mine.yaml", "--set", "langevin_steps=1", "--quiet") == 0
    config = make_config(read_document("runs/mine/config.yaml"))
    assert (config.batch_size, config.updates, config.langevin_steps) == (64, 25, 1)


@pytest.mark.usefixtures("undrawn")
def test_a_pack_repeats_bit_for_bit():
    configs = [make_config({**SMALL, "seed": seed, "epsilon": 0.1 + seed}) for seed in (0, 1)]
    trainer = Trainer(configs)
    trainer.run(150)
    record = f"""
format: 1
index: 1
threads: {torch.get_num_threads()}
engine_path: {trainer.engine.path}
members: [{configs[0].model_dump_json()}, {configs[1].model_dump_json()}]
"""
    Path("pack.yaml").write_text(record)
    assert run("train", "--pack", "pack.yaml", "--out", "again", "--quiet") == 0
    for member in (0, 1):
        found = traces(f"again/member-{member}")
        np.testing.assert_array_equal(found["d"], trainer.d(member))
        np.testing.assert_array_equal(found["r"], trainer.r(member))
        assert read_pack(f"again/member-{member}/pack.yaml").index == member
    assert not np.array_equal(traces("again/member-0")["d"], trainer.d(1))
    # what was written repeats in its turn, and one member can be asked for alone
    one = ["train", "--pack", "again/member-0/pack.yaml", "--member", 1, "--out", "third"]
    assert run(*one, "--quiet") == 0
    np.testing.assert_array_equal(traces("third/member-1")["d"], trainer.d(1))
    assert not Path("third/member-0").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_single_training_repeats_from_its_pack(capsys):
    config = write_config(updates=60, window=20, precision="float64")
    assert run("train", "--config", config, "--out", "first") == 0
    assert run("train", "--pack", "first/pack.yaml", "--out", "second") == 0
    np.testing.assert_array_equal(traces("first")["d"], traces("second")["d"])
    assert files("second") == FILES | {"landscape.png", BEFORE}
    assert "member" not in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_the_recorded_threads_are_used_and_given_back(monkeypatch):
    assert run("train", "--config", write_config(updates=20, window=20), "--out", "a") == 0
    record = read_document("a/pack.yaml")
    before, record["threads"] = torch.get_num_threads(), torch.get_num_threads() + 1
    Path("pack.yaml").write_text(dump_yaml(record))
    seen = []
    update = Trainer.run
    monkeypatch.setattr(
        Trainer, "run", lambda self, n: (seen.append(torch.get_num_threads()), update(self, n))
    )
    assert run("train", "--pack", "pack.yaml", "--out", "b") == 0
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    assert read_pack("b/pack.yaml").threads == before + 1


def interrupted_run(monkeypatch, at):
    """Makes the trainer see Ctrl-C while it makes an update."""
    update = Trainer.run

    def run_and_press(self, updates):
        if self.update >= at:
            signal.raise_signal(signal.SIGINT)
        update(self, updates)

    monkeypatch.setattr(Trainer, "run", run_and_press)


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_exactly(monkeypatch, capsys):
    config = write_config()
    with monkeypatch.context() as patched:
        interrupted_run(patched, at=30)
        assert run("train", "--config", config, "--out", "stopped") == 130
    assert files("stopped") - {BEFORE} == {"checkpoint.pt"}
    assert "train --resume stopped/checkpoint.pt" in capsys.readouterr().out
    assert 30 < Trainer.resume("stopped/checkpoint.pt").update < 150
    assert run("train", "--resume", "stopped/checkpoint.pt") == 0
    np.testing.assert_array_equal(traces("stopped")["d"], train(make_config(SMALL)).d)


def test_ctrl_c_twice_ends_at_once(monkeypatch, capsys):
    def press_twice(self, updates):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "run", press_twice)
    assert run("train", "--config", write_config(), "--out", "stopped") == 130
    assert files("stopped") == set()
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_resume_with_another_configuration_is_refused(capsys):
    assert run("train", "--config", write_config(updates=20, window=20), "--out", "a") == 0
    again = ["train", "--config", write_config(updates=20, window=20, seed=4)]
    assert run(*again, "--resume", "a/checkpoint.pt", "--out", "b") == 2
    assert "seed=0 there, 4 here" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_checkpoint_is_told_and_the_one_before_gone_on_from(capsys):
    assert run("train", "--config", write_config(), "--out", "a") == 0
    whole, path = traces("a")["d"], Path("a/checkpoint.pt")
    assert Trainer.resume(f"a/{BEFORE}").update == 120
    warned = f"the one before it is used, a/{BEFORE}\n"
    for options in (["--resume", path], ["--config", "small.yaml", "--resume", path]):
        path.write_bytes(path.read_bytes()[:-300])
        capsys.readouterr()
        assert run("train", *options) == 0
        said = capsys.readouterr()
        assert said.out.startswith("warning: a/checkpoint.pt: cannot be read as a checkpoint: ")
        assert warned in said.out
        assert "Warning" not in said.err
        np.testing.assert_array_equal(traces("a")["d"], whole)
        assert [Trainer.resume(f"a/{name}").update for name in (BEFORE, path.name)] == [120, 150]
    assert run("train", "--resume", path) == 0
    assert "warning" not in capsys.readouterr().out
    path.write_bytes(b"")
    Path(f"a/{BEFORE}").write_bytes(b"")
    assert run("train", "--resume", path) == 2
    assert f"; nor can the one before be used: a/{BEFORE}: cannot" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_resume_with_other_data_is_refused(capsys):
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    np.save("data.npy", x)
    config = write_config(data={"name": "array", "path": "data.npy"}, updates=20, window=20)
    assert run("train", "--config", config, "--out", "a") == 0
    np.save("data.npy", x + 1)
    assert run("train", "--resume", "a/checkpoint.pt") == 2
    assert "belongs to another data set: 40 samples" in capsys.readouterr().err


def test_a_diverged_training_is_a_result(capsys):
    config = write_config(gamma_0=1e6)
    assert run("train", "--config", config, "--long-run", 20) == 0
    said = capsys.readouterr().out
    assert said.startswith("diverged: ")
    assert "long run     not run: learning diverged" in said
    assert files("runs/small") == FILES | {"landscape.png"}


def test_artifacts_of_data_that_are_no_pictures(tmp_path):
    dataset = Samples(torch.randn(50, 5, generator=torch.Generator().manual_seed(0)))
    values = {**SMALL, "network": {"name": "mlp", "widths": [8]}, "updates": 20, "window": 20}
    Path("x.npy").touch()
    config = make_config({**values, "data": {"name": "array", "path": "x.npy"}})
    result = train_members([config], dataset=dataset)[0]
    written = write_artifacts(result, tmp_path / "out", dataset)
    assert {path.name for path in written} == files(tmp_path / "out")
    assert files(tmp_path / "out") == {"traces.npz", "config.yaml", "diagnostics.png"}


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.yaml"], "none.yaml: must be a readable file"),
        (["--preset", "digitz"], "preset: must be one of gmm_convergent"),
        (["--preset", "digits", "--set", "epsilon=wide"], "preset digits: epsilon: must be a"),
        (["--preset", "digits", "--set", "epsilo=1"], "epsilo: unknown key, got 1; did you mean"),
        (["--preset", "digits", "--set", "epsilon"], "--set: must be of the form key=value, got"),
        (["--preset", "digits", "--set", "epsilon={"], "preset digits: epsilon: must be YAML"),
        (["--preset", "digits", "--set", "updates.x=3"], "`updates` must be a mapping"),
        (["--preset", "digits", "--set", "anneal_updates=1900"], "anneal_updates: `anneal_upda"),
        (["--preset", "digits", "--set", "band.low=5"], "band.low: `low < high` must hold"),
        (["--preset", "digits", "--set", "data.size=9", "network=vanilla"], "data.size: "),
        (["--preset", "mnist_convergent"], "preset mnist_convergent: data.path: no such file"),
        (["--pack", "none.yaml"], "none.yaml: must be a readable file"),
        (["--pack", "none.yaml", "--set", "seed=1"], "--set: does not go with --pack"),
        (["--set", "seed=1"], "--set: needs --preset or --config"),
        (["--pack", "none.yaml", "--engine", "auto"], "--engine: does not go with --pack"),
        (["--engine", "reference"], "--engine: needs --preset or --config"),
        (["--resume", "none.pt"], "none.pt: no such checkpoint"),
        ([], "one of --preset, --config, --pack and --resume is required"),
        (["--preset", "digits", "--member", "1"], "--member: must be from 0 to 0"),
        (["--preset", "digits", "--out", "/dev/null/x"], "--out: must be a folder to write to"),
    ],
)
def test_bad_input_ends_with_2_and_one_message(arguments, message, capsys):
    assert run("train", *arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert files() == set()


def test_all_problems_of_a_file_come_together(capsys):
    assert run("train", "--config", write_config(epsilon=-1, batch_size="many")) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in said] == [
        ["small.yaml", "epsilon"],
        ["small.yaml", "batch_size"],
    ]


@pytest.mark.usefixtures("undrawn")
def test_an_unknown_engine_path_is_told_with_the_file(capsys):
    assert run("train", "--config", write_config(updates=20, window=20), "--out", "a") == 0
    record = {**read_document("a/pack.yaml"), "engine_path": "magic"}
    Path("pack.yaml").write_text(dump_yaml(record))
    assert run("train", "--pack", "pack.yaml") == 2
    said = capsys.readouterr().err
    assert "pack.yaml: " in said
    assert "'magic'" in said


@pytest.mark.usefixtures("undrawn")
def test_an_engine_path_that_does_not_suit_the_network_is_told_with_the_file(capsys):
    changes = {"data": "digits", "network": {"name": "nonlocal", "widths": [2, 2, 2]}}
    config = write_config(updates=20, window=20, langevin_steps=1, **changes)
    assert run("train", "--config", config, "--out", "a") == 0
    record = {**read_document("a/pack.yaml"), "engine_path": "closed_form"}
    Path("pack.yaml").write_text(dump_yaml(record))
    assert run("train", "--pack", "pack.yaml") == 2
    assert "pack.yaml: engine path must be vmap, loop or reference" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("engine", "path"), [("auto", "closed_form"), ("reference", "reference")])
def test_the_engine_is_chosen_on_the_command_line_and_told_in_the_pack(engine, path):
    config = write_config(updates=20, window=20)
    assert run("train", "--config", config, "--engine", engine, "--out", "a") == 0
    assert read_document("a/pack.yaml")["engine_path"] == path


@pytest.mark.parametrize("command", [["sample"], ["train", "--resume"]])
def test_a_checkpoint_that_is_not_whole_is_told(command, capsys):
    checkpoint.save({"update": 3}, "part.pt")
    assert run(*command, "part.pt") == 2
    assert "part.pt: no whole checkpoint: it lacks configs, data, eng" in capsys.readouterr().err


def test_the_long_run_is_that_of_the_seed_of_the_training(capsys):
    assert run("train", "--config", write_config(seed=3), "--long-run", 20, "--quiet") == 0
    result = train(make_config({**SMALL, "seed": 3}))
    line = long_run_line(check(result, 20))
    assert line in capsys.readouterr().out.splitlines()
    assert line != long_run_line(check(result, 20, seed=0))


@pytest.mark.parametrize("word", [["walk"], ["train", "--long-run", "-1"], []])
def test_wrong_words_end_with_2(word, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(word)
    assert "usage: python -m ebm_core" in capsys.readouterr().err


def test_it_runs_as_a_module():
    command = [sys.executable, "-W", "error", "-m", "ebm_core", "train", "--preset", "digitz"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("preset: must be one of")
    assert "Traceback" not in done.stderr


# -- sample --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    trainer = Trainer([make_config(SMALL)])
    trainer.run(SMALL["updates"])
    return trainer.save(tmp_path_factory.mktemp("model") / "checkpoint.pt")


@pytest.mark.parametrize("start", ["bank", "data", "noise"])
def test_sample_runs_chains_from_every_start(trained, start, capsys):
    options = ["--start", start, "--steps", 40, "--chains", 20, "--out", "chains.npz"]
    assert run("sample", trained, *options) == 0
    said = capsys.readouterr()
    assert f"20 chains from {start}: 40 unadjusted steps at ε = 0.1" in said.out
    assert "accepted     100.0% of moves" in said.out
    assert "40 of 40 steps" in said.err
    with np.load("chains.npz") as content:
        chains = dict(content)
    assert chains["x"].shape == (20, 2)
    energy = Trainer.resume(trained).result().energy
    with torch.no_grad():
        nats = energy(torch.from_numpy(chains["x"])).double() / (0.1**2 / 2)
    np.testing.assert_allclose(chains["energy_nats"], nats, rtol=1e-5)


def test_adjusted_chains_refuse_some_moves_and_the_seed_decides(trained, capsys):
    def states(*options):
        run("sample", trained, "--steps", 30, "--quiet", "--out", "chains.npz", *options)
        with np.load("chains.npz") as content:
            return content["x"], content["acceptance"]

    first, accepted = states("--adjusted", "--chains", 32)
    assert 0.5 < accepted.mean() < 1
    assert "Metropolis-adjusted" in capsys.readouterr().out
    np.testing.assert_array_equal(first, states("--adjusted", "--chains", 32)[0])
    assert not np.array_equal(first, states("--adjusted", "--chains", 32, "--seed", 1)[0])


def test_adjusted_chains_feel_no_constant_on_the_energy(trained):
    """One of float32 would drown the differences that moves are judged by."""

    def sampled(path):
        run("sample", path, "--adjusted", "--chains", 32, "--steps", 30, "--out", "chains.npz")
        with np.load("chains.npz") as content:
            return dict(content)

    trainer = Trainer.resume(trained)
    trainer.parameters["output.bias"] += 0.1**2 / 2 * 2**27
    raised = sampled(trainer.save("raised.pt"))
    trainer.parameters["output.bias"] -= 0.1**2 / 2 * 2**27
    plain = sampled(trainer.save("plain.pt"))
    assert raised["energy_nats"].min() > 1e8 > 1e4 > plain["energy_nats"].max()
    np.testing.assert_array_equal(raised["acceptance"], plain["acceptance"])
    np.testing.assert_allclose(raised["x"], plain["x"], rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chains", "33"], "--chains: must be at most the 32 states"),
        (["--member", "1"], "--member: must be from 0 to 0"),
        (["--out", "/dev/null/x.npz", "--steps", "1", "--chains", "2"], "--out: must be a file"),
        (["--device", "abacus"], "device: "),
    ],
)
def test_sample_refuses_what_does_not_fit(trained, options, message, capsys):
    assert run("sample", trained, "--quiet", *options) == 2
    assert message in capsys.readouterr().err


def test_sample_refuses_what_is_no_checkpoint(capsys):
    Path("model.pt").write_text("hello")
    assert run("sample", "model.pt") == 2
    assert "model.pt: cannot be read as a checkpoint" in capsys.readouterr().err


# -- diagnose ------------------------------------------------------------------------------------


def test_diagnose_repeats_the_verdict_of_a_training(capsys):
    assert run("train", "--config", write_config(), "--out", "model", "--quiet") == 0
    trained = capsys.readouterr().out.splitlines()
    assert run("diagnose", "model/traces.npz") == 0
    judged = capsys.readouterr().out.splitlines()
    assert judged[:-1] == [line for line in trained[:-1] if "density" not in line]
    assert Path("model/traces-diagnostics.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_constants_that_are_given_outweigh_the_configuration(capsys):
    assert run("train", "--config", write_config(), "--out", "model", "--quiet") == 0

    def said(*options):
        capsys.readouterr()
        assert run("diagnose", "model/traces.npz", *options) == 0
        return capsys.readouterr().out

    plain = said()
    assert "updates 30 to 149" in plain
    assert said("--epsilon", 0.1, "--dimensions", 2, "--eps-data-ratio", 1) == plain
    assert "updates 50 to 149" in said("--window", 100)
    assert "the learning rate falls until 140" in said("--constant-from", 140)
    matched = matched_gradient(Gmm(), 0.2, 0.2)
    for option, value, star in (("--r-star", 0.5, 0.5), ("--epsilon", 0.2, matched.r_star)):
        ratio = traces("model")["r"][30:].mean() / star
        assert f"= {ratio:.3g} r*" in said(option, value)
    noisier = matched_gradient(Gmm(), 0.1, 0.3).r_star
    ratio = traces("model")["r"][30:].mean() / noisier
    assert f"= {ratio:.3g} r*" in said("--eps-data-ratio", 3)


def test_dimensions_that_are_given_outweigh_those_of_the_data(capsys):
    config = write_config(band={"unit": "scaled", "low": 0.1, "high": 0.2})
    assert run("train", "--config", config, "--out", "model", "--quiet") == 0
    r = traces("model")["r"][30:].mean()
    for n in (2, 8):
        capsys.readouterr()
        assert run("diagnose", "model/traces.npz", "--dimensions", n) == 0
        assert f"{r / (0.1 * n**0.5):.3g} ε√N" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_diagnose_knows_what_broke_a_training_off(capsys):
    """Chains that left the reasonable, where d and r are finite to the last."""
    config = write_config(gamma_0=30.0)
    assert run("train", "--config", config, "--out", "model", "--quiet") == 0
    summary = capsys.readouterr().out.splitlines()[0]
    assert summary.startswith("diverged: chains left any reasonable range at update ")
    found = traces("model")
    assert np.isfinite(found["d"]).all()
    assert found["diverged_at"] == found["update"][-1]
    assert run("diagnose", "model/traces.npz") == 0
    assert capsys.readouterr().out.splitlines()[0] == summary
    np.savez("model/traces.npz", d=found["d"], r=found["r"])
    assert run("diagnose", "model/traces.npz") == 0
    assert not capsys.readouterr().out.startswith("diverged: chains")


def series(n=500):
    rng = np.random.default_rng(0)
    return rng.normal(size=n), 0.2 + 0.004 * rng.normal(size=n)


CONSTANTS = ["--epsilon", "0.08", "--dimensions", "64"]


def test_diagnose_takes_csv_and_npz_of_anyone(capsys):
    d, r = series()
    rows = "".join(f"{t}, {a!r}, {b!r}\n" for t, (a, b) in enumerate(np.stack([d, r], 1).tolist()))
    Path("mine.csv").write_text("t, d, r\n" + rows)
    np.savez("mine.npz", d=d, r=r, name=np.array(["any", "thing"]))
    said = []
    for name in ("mine.csv", "mine.npz"):
        options = [*CONSTANTS, "--r-star", "0.19", "--out", "figure.png"]
        assert run("diagnose", name, *options) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith("convergent\n")
    assert "1.05 r* (band 0.5 to 1.4" in said[0]
    assert Path("figure.png").is_file()


def test_diagnose_knows_the_batch_that_d_is_a_mean_over(capsys):
    d, r = series()
    np.savez("mine.npz", d=d + 1.2 * d.std(), r=r)
    for batch, verdict in (("100", "convergent"), ("10", "nonconvergent: d_unbalanced")):
        options = [*CONSTANTS, "--r-star", "0.19", "--batch-size", batch, "--out", "figure.png"]
        assert run("diagnose", "mine.npz", *options) == 0
        assert capsys.readouterr().out.splitlines()[0] == verdict


def test_diagnose_uses_the_constants_it_is_given(capsys):
    d, r = series()
    np.savez("mine.npz", d=d, r=r)
    assert run("diagnose", "mine.npz", *CONSTANTS, "--eps-data-ratio", "2") == 0
    # 0.1997 / (0.08 sqrt(64) (2 - sqrt(3)))
    assert "= 1.16 r*" in capsys.readouterr().out
    assert run("diagnose", "mine.npz", *CONSTANTS, "--window", "200") == 0
    said = capsys.readouterr().out
    assert "ε√N (band 0.0962 to 0.18" in said
    assert "updates 300 to 499" in said
    assert (
        run("diagnose", "mine.npz", *CONSTANTS, "--constant-from", "450", "--window", "200") == 0
    )
    assert "learning rate" in capsys.readouterr().out.splitlines()[0]


def test_diagnose_of_short_and_broken_series_is_a_verdict(capsys):
    for d, verdict in (([1.0, 2.0], "unassessed"), ([1.0, np.nan], "diverged")):
        np.savez("mine.npz", d=d, r=[0.1, 0.2])
        assert run("diagnose", "mine.npz", *CONSTANTS) == 0
        assert capsys.readouterr().out.startswith(verdict)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv: must be a readable file"),
        ("a.csv", "d, q\n1, 2\n", "a.csv: r: required as a column; the file has d, q"),
        ("a.csv", "", "a.csv: d: required as a column; the file has none"),
        ("a.csv", "d,r\n1,2\n3,x\n", "a.csv: must be an npz or csv file of numbers (line 3"),
        ("a.csv", "d,r\n1\n", "column r: None"),
        ("a.npz", "hello", "a.npz: must be an npz or csv file of numbers"),
        ("a.npz", {"d": np.zeros(3)}, "a.npz: r: required as a column; the file has d"),
        ("a.npz", {"d": np.zeros(3), "r": np.zeros(4)}, "a.npz: d, r: must be series of one"),
        ("a.npz", {"d": np.zeros((3, 1)), "r": np.zeros((3, 1))}, "must be series of one length"),
        ("a.npz", {"d": np.array(["x"]), "r": np.zeros(1)}, "must be an npz or csv file of num"),
        ("a.npy", np.zeros(3), "a.npy: must be an npz or csv file of numbers (one array"),
    ],
)
def test_diagnose_refuses_a_file_by_its_name(name, content, message, capsys):
    if isinstance(content, str):
        Path(name).write_text(content)
    elif isinstance(content, dict):
        np.savez(name, **content)
    elif content is not None:
        np.save(name, content)
    assert run("diagnose", name, *CONSTANTS) == 2
    assert message in capsys.readouterr().err


def test_diagnose_asks_for_the_constants_that_it_lacks(capsys):
    d, r = series(30)
    np.savez("mine.npz", d=d, r=r)
    assert run("diagnose", "mine.npz") == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in said] == ["--epsilon", "--dimensions"]
    assert run("diagnose", "mine.npz", *CONSTANTS, "--out", "/dev/null/f.png") == 2
    assert "--out: must be a file to write" in capsys.readouterr().err
    assert files() == {"mine.npz"}
