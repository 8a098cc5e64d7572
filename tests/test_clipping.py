"""Gradients that are clipped: by how much, for whom, and that it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ebm_core import checkpoint, preset
from ebm_core.__main__ import main
from ebm_core.objective import clip
from ebm_core.trainer import Trainer

SHORT = preset("digits", updates=60, window=40, anneal_updates=0, bank_size=64, device="cpu")


def trained(updates: int = 60, **changes: object) -> Trainer:
    trainer = Trainer([SHORT.with_(**changes)])
    trainer.run(updates)
    return trainer


def test_only_members_over_the_limit_are_shortened_to_it() -> None:
    torch.manual_seed(0)
    gradients = {"weight": torch.randn(3, 4, 5), "bias": torch.randn(3, 5)}
    gradients["weight"][0] *= 0.01
    gradients["bias"][0] *= 0.01
    found, clipped = clip(gradients, 1.0)
    assert clipped.tolist() == [False, True, True]
    together = torch.cat([value.flatten(1) for value in found.values()], dim=1)
    torch.testing.assert_close(together.norm(dim=1)[1:], torch.ones(2))
    for name, value in gradients.items():
        assert torch.equal(found[name][0], value[0])
        ratio = found[name][1] / value[1]
        torch.testing.assert_close(ratio, ratio.flatten()[0].expand_as(ratio))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    found, _ = clip({"weight": torch.tensor([[1.0, bad], [3.0, 4.0]])}, 1.0)
    assert not found["weight"][0].isfinite().all()
    torch.testing.assert_close(found["weight"][1], torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_limit_that_is_never_reached_changes_nothing(optimizer: str) -> None:
    plain, wide = (trained(optimizer=optimizer, clip_gradient=c) for c in (None, 1e6))
    np.testing.assert_array_equal(plain.d(), wide.d())
    assert plain.result().clipped.size == 0
    assert wide.result().clipped.sum() == 0
    assert wide.result().assessment.evidence["clipped_share"] == 0
    assert np.isnan(plain.result().assessment.evidence["clipped_share"])


def test_one_step_moves_by_the_rate_times_the_limit() -> None:
    limit = 1e-3
    before = Trainer([SHORT.with_(clip_gradient=limit)])
    start = {name: value.clone() for name, value in before.parameters.items()}
    before.run(1)
    moved = sum(float((before.parameters[k] - start[k]).square().sum()) for k in start) ** 0.5
    assert moved == pytest.approx(SHORT.gamma_0 * limit, rel=1e-3)
    assert before.result().clipped.tolist() == [1.0]


def test_members_of_a_pack_are_clipped_each_by_its_own_gradient() -> None:
    """In double precision, since alone and in a pack rounding differs."""
    configs = [
        SHORT.with_(seed=s, epsilon=e, clip_gradient=2.0, precision="float64")
        for s, e in ((0, 0.05), (1, 0.3))
    ]
    pack, alone = Trainer(configs), [Trainer([config]) for config in configs]
    for trainer in (pack, *alone):
        trainer.run(5)
    for member, own in enumerate(alone):
        np.testing.assert_allclose(pack.d(member), own.d(), rtol=1e-9)
        np.testing.assert_array_equal(pack.result(member).clipped, own.result().clipped)


def test_clipping_lets_a_rate_pass_that_diverges_without() -> None:
    wild = {"gamma_0": 1.0, "gamma_start": None, "gamma_start_ratio": None}
    plain, clipped = trained(**wild), trained(**wild, clip_gradient=0.05)
    assert plain.result().assessment.verdict == "diverged"
    assert clipped.result().assessment.verdict != "diverged"
    assert clipped.result().assessment.evidence["clipped_share"] > 0.9


def test_a_resumed_training_goes_on_with_what_was_clipped(tmp_path: Path) -> None:
    whole, begun = trained(clip_gradient=1.0), trained(25, clip_gradient=1.0)
    resumed = Trainer.resume(begun.save(tmp_path / "checkpoint.pt"))
    resumed.run(60)
    np.testing.assert_array_equal(whole.result().clipped, resumed.result().clipped)
    np.testing.assert_array_equal(whole.d(), resumed.d())


def test_a_checkpoint_from_before_there_was_clipping_goes_on(tmp_path: Path) -> None:
    state = trained(25).state()
    for values in state["configs"]:
        del values["clip_gradient"]
    resumed = Trainer.resume(checkpoint.save(state, tmp_path / "old.pt"))
    resumed.run(60)
    np.testing.assert_array_equal(trained().d(), resumed.d())


def test_the_command_says_it_and_diagnose_knows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["updates=60", "window=40", "anneal_updates=0", "bank_size=64", "clip_gradient=0.001"]
    out = tmp_path / "run"
    train = ["train", "--preset", "digits", "--set", *words, "--out", str(out), "--quiet"]
    assert main(train) == 0
    told = "  clipped      the gradient of 100% of updates"
    assert told in capsys.readouterr().out.splitlines()
    assert main(["diagnose", str(out / "traces.npz")]) == 0
    assert told in capsys.readouterr().out.splitlines()
