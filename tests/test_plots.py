"""Figures: what they draw, that they draw it for every series, and that their words keep apart."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch

from ebm_core import plots
from ebm_core.config import Band, TrainConfig, make_config
from ebm_core.data import Gmm, Samples
from ebm_core.diagnostics import autocorrelation, cross_correlation, white_noise_bound
from ebm_core.energies import build_energy
from ebm_core.matched import MatchedGradient
from ebm_core.plots.panels import _thinned
from ebm_core.plots.states import _montage
from ebm_core.result import RunResult, judge

CONSTANTS = {"epsilon": 0.08, "dimensions": 64, "r_star": 0.2}
DESCRIPTION = "ε = 0.08 · ρ = 2 · γ₀ = 0.1 → 0.005 over 1,000 updates · SGD · L = 30 · digits, mlp"


def autoregression(coefficients, n, seed):
    rng = np.random.default_rng(seed)
    x = np.zeros(n + 200)
    for t in range(len(coefficients), len(x)):
        x[t] = np.dot(coefficients, x[t - 1 :: -1][: len(coefficients)]) + rng.normal()
    return x[200:]


def weak(n=1_000):
    d = autoregression([], n, 0)
    return d, 0.2 + 0.005 * autoregression([0.9], n, 1)


def strong(n=1_000):
    d = autoregression([0.8, -0.9], n, 2)
    return 3 * d, 0.2 + 0.005 * d


def burst(n=1_000):
    d, r = weak(n)
    decay = np.exp(-np.arange(n) / 30)
    return d - 300 * decay, r * (1 - 0.95 * decay)


def growing(n=30):
    d = (-3.0) ** np.arange(n) * 1e-3
    return np.append(d, [np.nan] * 5), np.append(np.abs(d), [np.nan] * 5)


def overflowing():
    d = np.array([0.1, -1, 3, -20, 400, -2e5, 1e20, -3e38, np.inf, np.nan])
    return d, np.abs(d)


SERIES = {
    "weak": weak(),
    "strong": strong(),
    "burst": burst(),
    "long": weak(20_000),
    "far below the band": (weak()[0] + 4, weak()[1] / 40),
    "growing": growing(),
    "overflowing": overflowing(),
    "huge": (1e200 * weak(200)[0], 1e200 * weak(200)[1]),
    "collapsing": (-np.exp(np.arange(1_000) / 90) * 10, weak()[1]),
    "constant": (np.zeros(300), np.full(300, 0.2)),
    "frozen r": (weak(300)[0], np.full(300, 0.2)),
    "zero r": (weak(300)[0], np.zeros(300)),
    "short": tuple(x[:12] for x in weak()),
    "one update": (np.array([1.0]), np.array([0.2])),
    "empty": (np.array([]), np.array([])),
    "nothing finite": (np.full(40, np.nan), np.full(40, np.nan)),
}


def draw(d, r, **changes):
    options = {**CONSTANTS, "description": DESCRIPTION, **changes}
    return plots.diagnostics_from_series(d, r, **options)


def saved(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def words(figure):
    """Every visible piece of text, legends as a whole, with its box in pixels."""
    figure.draw_without_rendering()
    found = [(text.get_text(), text) for text in figure.texts]
    for ax in figure.axes:
        texts = [ax.xaxis.label, ax.yaxis.label, ax._left_title, *ax.texts]
        found += [(text.get_text(), text) for text in texts]
        if ax.get_legend() is not None:
            found.append(("legend", ax.get_legend()))
    return [(text, artist.get_window_extent()) for text, artist in found if text]


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def levels(ax):
    """Heights of the horizontal lines."""
    return sorted(
        {
            float(line.get_ydata()[0])
            for line in ax.get_lines()
            if len(line.get_ydata()) == 2 and np.ptp(line.get_ydata()) == 0
        }
    )


@pytest.mark.parametrize("name", SERIES)
def test_every_series_is_drawn_without_a_warning_and_words_keep_apart(name):
    figure = draw(*SERIES[name])
    width, height = figure.get_size_inches() * figure.dpi
    boxes = words(figure)
    assert len(boxes) >= 10
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= height + 1, text
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, (first, second)
    assert len(saved(figure)) < 200_000
    assert 950 < width < 1_050


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("overflowing", "too few updates"),
        ("constant", "d is constant"),
        ("frozen r", "r is constant"),
        ("short", "too few updates (12)"),
        ("empty", "no updates were made"),
        ("nothing finite", "no finite value"),
    ],
)
def test_a_panel_without_an_answer_says_why(name, said):
    figure = draw(*SERIES[name])
    texts = [" ".join(text.get_text().split()) for ax in figure.axes for text in ax.texts]
    assert any(said in text for text in texts)


def test_where_a_run_broke_off_is_marked():
    d, r = SERIES["growing"]
    for ax in draw(d, r).axes[:2]:
        [mark] = [line for line in ax.get_lines() if line.get_linestyle() == ":"]
        assert mark.get_label() == "not finite from update 30 on"
        assert list(mark.get_xdata()) == [30, 30]
        assert ax.get_title(loc="left").count("mean") == 0


def test_panels_with_answers_hold_no_excuse():
    figure = draw(*SERIES["weak"])
    assert not [text for ax in figure.axes for text in ax.texts]


def test_correlations_are_those_of_the_window():
    d, r = SERIES["burst"]
    assessed = draw(d, r).axes
    whole = plots.diagnostics_from_series(
        d, r, **CONSTANTS, assessment=judged(d, r, window=400), description=""
    ).axes
    shown = lines(whole[3])
    wd, wr = d[-400:], r[-400:]
    np.testing.assert_allclose(shown["d"].get_ydata(), autocorrelation(wd))
    np.testing.assert_allclose(shown["r"].get_ydata(), autocorrelation(wr))
    uncentred = autocorrelation(wd, centered=False)
    np.testing.assert_allclose(shown["d, not centred"].get_ydata(), uncentred)
    dots = next(line for line in whole[2].get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_ydata(), cross_correlation(wd, wr))
    np.testing.assert_array_equal(dots.get_xdata(), np.arange(-15, 16))
    # the burst lies outside that window and inside the whole run
    assert not np.allclose(lines(assessed[3])["d"].get_ydata(), shown["d"].get_ydata(), atol=0.05)


def test_bounds_of_white_noise_are_in_both_correlation_panels():
    d, r = SERIES["weak"]
    axes = draw(d, r).axes
    for ax, lags in ((axes[2], 31), (axes[3], 15)):
        one, all_lags = white_noise_bound(d.size), white_noise_bound(d.size, lags)
        assert one == pytest.approx(1.96 / np.sqrt(d.size), rel=1e-3)
        assert levels(ax) == pytest.approx([-all_lags, -one, 0, one, all_lags])


@pytest.mark.parametrize(
    ("band", "edges"),
    [
        (Band(low=0.75, high=1.4), (0.15, 0.28)),
        (Band(low=0.1, high=0.2, unit="scaled"), (0.064, 0.128)),
        (Band(low=0.08, high=0.15, unit="absolute"), (0.08, 0.15)),
    ],
)
def test_bands_are_drawn_in_units_of_x(band, edges):
    ax = draw(*SERIES["weak"], band=band).axes[1]
    spans = [p for p in ax.patches if str(p.get_label()).startswith("band")]
    low, high = spans[0].get_y(), spans[0].get_y() + spans[0].get_height()
    assert (low, high) == pytest.approx(edges)
    # [0.08, 0.15] at 0.015 on 32x32x3, brought to 0.08 and 64 numbers
    factor = 0.08 * 8 / (0.015 * np.sqrt(3072))
    assert levels(ax) == pytest.approx([0.08 * factor, 0.15 * factor], rel=0.01)


def test_without_r_star_the_printed_band_stands_alone():
    ax = draw(*SERIES["weak"], r_star=None).axes[1]
    assert levels(ax) == []
    assert sum(str(p.get_label()).startswith("band") for p in ax.patches) == 1


def test_r_axis_is_logarithmic_over_decades_only():
    assert draw(*SERIES["weak"]).axes[1].get_yscale() == "linear"
    assert draw(*SERIES["burst"]).axes[1].get_yscale() == "log"
    assert draw(*SERIES["zero r"]).axes[1].get_yscale() == "linear"


def test_an_early_burst_is_named_and_leaves_room_for_the_window():
    d, r = SERIES["burst"]
    ax = plots.diagnostics_from_series(
        d, r, **CONSTANTS, assessment=judged(d, r, window=400)
    ).axes[0]
    low, high = ax.get_ylim()
    assert -15 < low < -3
    assert 3 < high < 15
    assert f"{d.min():,.3g}" in ax.texts[0].get_text()


def test_title_tells_verdict_reasons_and_oscillation():
    texts = [text.get_text() for text in draw(*SERIES["strong"]).texts]
    assert texts[0] == "nonconvergent: strong oscillation"
    assert texts[1].startswith("strong oscillation: lowest autocorrelation")
    assert texts[2] == DESCRIPTION


def test_series_must_fit():
    with pytest.raises(ValueError, match="one length"):
        draw(np.zeros(4), np.zeros(5))


def test_thinning_keeps_ends_of_the_range_and_order():
    y = autoregression([0.9], 20_000, 4)
    y[12_345], y[77] = 50, -60
    t, thin = _thinned(np.arange(y.size), y)
    assert len(thin) <= 3_000
    assert (thin.min(), thin.max()) == (-60, 50)
    np.testing.assert_array_equal(thin, y[t])
    assert (np.diff(t) > 0).all()
    few = np.arange(100), y[:100]
    assert _thinned(*few)[1] is few[1]


def test_importing_loads_no_matplotlib_and_drawing_no_pyplot():
    code = (
        "import sys, ebm_core.plots as p; assert 'matplotlib' not in sys.modules;"
        "p.diagnostics_from_series([1., 2.], [1., 2.], epsilon=1, dimensions=1);"
        "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_settings_of_the_user_neither_matter_nor_change():
    plain = saved(draw(*SERIES["weak"]))
    strange = {"font.size": 30.0, "axes.facecolor": "black", "lines.linewidth": 9.0}
    with matplotlib.rc_context(strange):
        before = dict(matplotlib.rcParams)
        figure = draw(*SERIES["weak"])
        assert dict(matplotlib.rcParams) == before
    assert saved(figure) == plain


# -- states --------------------------------------------------------------------------------------


def judged(d, r, window, divergence=None):
    config = make_config({**DIGITS, "window": window, "updates": len(d)})
    return judge(config, d, r, 64, MatchedGradient(0.2, 0.1), divergence)


DIGITS = {"data": "digits", "network": "mlp", "epsilon": 0.08, "bank_size": 100, "window": 100}
PLANE = {"data": "gmm", "network": "toy", "epsilon": 0.1, "eps_data_ratio": 0, "window": 100}


def run_result(values, chains, energy=None, **changes):
    config: TrainConfig = make_config({**values, "updates": 1_000, **changes})
    d, r = weak()
    matched = MatchedGradient(0.2, 0.1)
    return RunResult(
        config=config,
        energy=energy or build_energy(config.network, tuple(chains.shape[1:])),
        d=d,
        r=r,
        r_rms=r,
        assessment=judge(config, d, r, chains[0].numel(), matched),
        status="finished",
        cause="",
        chains=chains,
        matched=matched,
    )


class TrueEnergy(torch.nn.Module):
    """F = -T log q, of the law under a noise."""

    def __init__(self, law, sd, epsilon):
        super().__init__()
        self.law, self.sd, self.temperature = law, sd, epsilon**2 / 2
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return -self.temperature * self.law.log_density(x, self.sd).to(x.dtype)


def heights(ax):
    """Every filled contour: its levels and how many corners each has."""
    [contours] = [c for c in ax.collections if hasattr(c, "levels")]
    return contours.levels, [len(path.vertices) for path in contours.get_paths()]


@pytest.mark.parametrize("ratio", [0, 2.0])
def test_a_perfect_model_looks_like_the_truth(ratio):
    law = Gmm()
    sd = np.hypot(law.sd, 0.1 * ratio)
    chains = law.draw(500, torch.Generator().manual_seed(0))
    exact = run_result(PLANE, chains, TrueEnergy(law, sd, 0.1), eps_data_ratio=ratio)
    learned, true, model, truth, *_ = plots.landscape(exact, law).axes
    for left, right in ((learned, true), (model, truth)):
        (levels_left, left_corners), (levels_right, right_corners) = heights(left), heights(right)
        np.testing.assert_array_equal(levels_left, levels_right)
        np.testing.assert_allclose(left_corners, right_corners, rtol=0.02, atol=20)
    # negative control: the same model is no picture of the law under another noise
    other = run_result(PLANE, chains, TrueEnergy(law, 1.6 * sd, 0.1), eps_data_ratio=ratio)
    learned, true, *_ = plots.landscape(other, law).axes
    assert not np.allclose(heights(learned)[1], heights(true)[1], rtol=0.02, atol=20)


def test_landscape_tells_of_blur_and_of_chains_outside():
    law = Gmm()
    chains = law.draw(300, torch.Generator().manual_seed(0))
    chains[:7] = 100.0
    figure = plots.landscape(run_result(PLANE, chains, eps_data_ratio=2.0), law)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "blurred by ε_data = 0.2" in titles[1]
    assert titles[2] == "Learned density, 300 chains, 7 outside"
    assert len(saved(figure)) < 200_000


def test_landscape_of_a_broken_model_says_so():
    law = Gmm()
    chains = torch.full((50, 2), torch.nan)
    result = run_result(PLANE, chains)
    with torch.no_grad():
        next(result.energy.parameters()).fill_(torch.nan)
    figure = plots.landscape(result, law)
    saved(figure)
    said = [" ".join(t.get_text().split()) for ax in figure.axes for t in ax.texts]
    assert said == ["the learned energy is not finite"] * 2


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_samples_stand_beside_noised_data(shape):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(100, *shape, generator=rng) * 1.8 - 0.9
    network = "mlp"
    result = run_result({**DIGITS, "network": network}, images)
    figure = plots.samples(result, data=Samples(images))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0] == "Chains after 1,000 updates"
    assert titles[1].startswith("Data with noise of sd 0.16: ")
    assert titles[1].endswith(" of values clipped")
    assert [len(ax.images) for ax in figure.axes] == [1, 1]
    saved(figure)
    alone = plots.samples(result)
    assert [len(ax.images) for ax in alone.axes] == [1, 0]


def test_samples_count_broken_states():
    chains = torch.zeros(70, 1, 8, 8)
    chains[3, 0, 2, 2] = torch.nan
    figure = plots.samples(run_result(DIGITS, chains))
    assert figure.axes[0].get_title(loc="left").endswith(": 1 of 64 not finite")


def test_samples_refuse_what_is_no_image():
    with pytest.raises(ValueError, match=r"1 or 3, height, width.*\(2,\)"):
        plots.samples(run_result(PLANE, torch.zeros(10, 2)))
    assert not plots.is_image((4, 8, 8))
    assert plots.is_image((3, 8, 8))


def test_montage_puts_each_image_in_its_place():
    x = torch.linspace(-1, 1, 9)[:, None, None, None].expand(9, 3, 8, 8)
    picture = _montage(x, 3)
    assert picture.shape == (26, 26, 3)
    for index, value in enumerate(np.linspace(0, 1, 9)):
        row, column = divmod(index, 3)
        tile = picture[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
        np.testing.assert_allclose(tile, value, atol=1e-6)
    assert (picture[8] == 1).all()


def test_description_tells_the_four_axes():
    constant = make_config({**DIGITS, "gamma_0": 0.1, "optimizer": "adam"})
    text = plots.describe(constant)
    assert "ε = 0.08 · ρ = 2 · γ₀ = 0.1, not annealed · Adam" in text
    annealed = constant.with_(gamma_start=0.5, anneal_updates=1_000)
    assert "γ₀ = 0.5 → 0.1 over 1,000 updates" in plots.describe(annealed)


def test_a_cause_is_told_once():
    result = run_result(DIGITS, torch.zeros(100, 1, 8, 8))
    result.status, result.cause = "stopped_early", "stopped after 1000 of 2000 updates"
    texts = [text.get_text() for text in plots.diagnostics(result).texts]
    assert sum("stopped after 1000" in text for text in texts) == 1
