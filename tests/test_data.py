"""Data sets: samples and densities agree, noise is fresh, files are read or named."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

from ebm_core.config import make_config
from ebm_core.data import (
    Gmm,
    PlaneLaw,
    Rings,
    Samples,
    is_plane_law,
    load_data,
    positive_samples,
)
from ebm_core.errors import DataError
from ebm_core.images import digits
from ebm_core.sections import (
    ArrayData,
    DigitsData,
    GmmData,
    ImageFolderData,
    PatchesData,
    RingsData,
)

LAWS: dict[str, PlaneLaw] = {
    "gmm": Gmm(),
    "three wide modes": Gmm(modes=3, radius=2.0, sd=0.4),
    "one mode": Gmm(modes=1, radius=0.0, sd=1.0),
    "rings": Rings(),
    "one ring": Rings(rings=1, sd=0.3),
}
NOISE = [0.0, 0.25]
MARGIN = 6 * 0.25


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def total_sd(law: PlaneLaw, noise: float) -> float:
    return math.hypot(law.sd, noise)


def grid(extent: float, points: int = 400) -> tuple[Tensor, float]:
    """Centres of cells, shape (points**2, 2), and the area of one."""
    edge = 2 * extent / points
    axis = torch.arange(points, dtype=torch.float64) * edge - extent + edge / 2
    return torch.cartesian_prod(axis, axis), edge**2


def standard_errors(values: Tensor, expected: float) -> float:
    """Distance of a sample mean from its expectation, in standard errors."""
    error = values.std() / math.sqrt(len(values))
    return float((values.mean() - expected).abs() / error)


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("name", LAWS)
def test_a_density_integrates_to_one(name: str, noise: float) -> None:
    law = LAWS[name]
    sd = total_sd(law, noise)
    x, area = grid(law.extent + 6 * noise)
    assert float(law.log_density(x, sd).exp().sum()) * area == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("name", LAWS)
def test_samples_follow_the_density(name: str, noise: float) -> None:
    """The entropy, the mean square and every well-filled cell of a histogram."""
    law = LAWS[name]
    sd = total_sd(law, noise)
    n = 100_000
    samples = positive_samples(law, n, noise, seeded(1), torch.float64)
    x, area = grid(law.extent + MARGIN)
    log_q = law.log_density(x, sd)
    q = log_q.exp() * area
    assert standard_errors(law.log_density(samples, sd), float((q * log_q).sum())) < 5
    square = float((q * x.square().sum(1)).sum())
    assert standard_errors(samples.square().sum(1), square) < 5
    expected, found = cells(x, q, law), cells(samples, torch.ones(n, dtype=torch.float64), law)
    filled = n * expected > 50
    z = (found - n * expected) / (n * expected).sqrt()
    assert int(filled.sum()) > 50
    assert float(z[filled].abs().max()) < 5


def cells(x: Tensor, weights: Tensor, law: PlaneLaw) -> Tensor:
    """Weights summed over a coarse grid of 40 x 40 cells, which the fine one of `grid` divides."""
    half = law.extent + MARGIN
    inside = x.abs().amax(1) < half
    column, row = ((x[inside] + half) / (2 * half / 40)).long().T
    return torch.zeros(1600, dtype=torch.float64).index_add(0, column * 40 + row, weights[inside])


@pytest.mark.parametrize("name", LAWS)
def test_a_density_of_another_width_is_told_from_the_samples(name: str) -> None:
    law = LAWS[name]
    samples = positive_samples(law, 100_000, 0.0, seeded(1), torch.float64)
    x, area = grid(law.extent + 2)
    wrong = law.log_density(x, 1.1 * law.sd)
    entropy = float((wrong.exp() * area * wrong).sum())
    assert standard_errors(law.log_density(samples, 1.1 * law.sd), entropy) > 5


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("name", LAWS)
def test_the_score_is_that_of_the_density(name: str, noise: float) -> None:
    r"""E[x . grad log q] = -2 in the plane, at samples; and central differences."""
    law = LAWS[name]
    sd = total_sd(law, noise)
    x = positive_samples(law, 50_000, noise, seeded(2), torch.float64).requires_grad_()
    (score,) = torch.autograd.grad(law.log_density(x, sd).sum(), x)
    assert standard_errors((x * score).sum(1).detach(), -2) < 5
    step = torch.tensor([1e-5, 0.0], dtype=torch.float64)
    with torch.no_grad():
        rise = (law.log_density(x + step, sd) - law.log_density(x - step, sd)) / 2e-5
    torch.testing.assert_close(score[:, 0], rise, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LAWS)
def test_a_score_of_another_width_is_told_from_the_samples(name: str) -> None:
    law = LAWS[name]
    x = positive_samples(law, 50_000, 0.0, seeded(2), torch.float64).requires_grad_()
    (score,) = torch.autograd.grad(law.log_density(x, 0.7 * law.sd).sum(), x)
    assert standard_errors((x * score).sum(1).detach(), -2) > 5


def test_the_closed_forms_at_a_point() -> None:
    origin = torch.zeros(1, 2)
    one = Gmm(modes=1, radius=0.0).log_density(origin, 0.5)
    assert float(one) == pytest.approx(-math.log(2 * math.pi * 0.25))
    ring = Rings(rings=1).log_density(origin, 0.5)
    assert float(ring) == pytest.approx(-math.log(2 * math.pi * 0.25) - 1 / (2 * 0.25))
    far = Rings().log_density(torch.tensor([[1e4, 0.0]]), 0.15)
    assert bool(torch.isfinite(far).all())


def test_modes_lie_on_a_circle_and_rings_at_whole_radii() -> None:
    means = Gmm(modes=4, radius=2.0).means
    expected = torch.tensor([[2, 0], [0, 2], [-2, 0], [0, -2]], dtype=torch.float64)
    torch.testing.assert_close(means, expected)
    radii = Rings(rings=3, sd=1e-6).draw(1_000, seeded(0)).norm(dim=1)
    assert sorted(set(radii.round(decimals=3).tolist())) == [1.0, 2.0, 3.0]


# -- noise on positive samples -----------------------------------------------------------------


def variance_z(samples: Tensor, sd: float) -> float:
    """Distance of the second moment of a Gaussian from its law, in standard errors."""
    values = samples.flatten()
    error = sd**2 * math.sqrt(2 / len(values))
    return float((values.square().mean() - sd**2).abs() / error)


@pytest.mark.parametrize("data_epsilon", [0.01, 0.3, 2.0])
def test_positive_samples_have_the_variance_of_their_noise(data_epsilon: float) -> None:
    point = Samples(torch.zeros(1, 3, 4))
    x = positive_samples(point, 20_000, data_epsilon, seeded(3), torch.float64)
    assert variance_z(x, data_epsilon) < 5
    assert variance_z(x / 2, data_epsilon) > 5
    assert standard_errors(x.flatten(), 0.0) < 5


def test_noise_adds_to_the_variance_of_the_data() -> None:
    clean = Samples(torch.randn(5_000, 6, generator=seeded(4)))
    rng = seeded(5)
    x = positive_samples(clean, 200_000, 0.5, rng, torch.float32).flatten()
    expected = float(clean.x.square().mean()) + 0.25
    assert standard_errors(x.square(), expected) < 5
    assert standard_errors(x.square(), expected - 0.05) > 5


def test_noise_is_fresh_at_every_draw() -> None:
    point = Samples(torch.zeros(1, 8))
    rng = seeded(6)
    first, second = (positive_samples(point, 10_000, 1.0, rng, torch.float32) for _ in range(2))
    assert standard_errors((first * second).flatten(), 0.0) < 5
    assert standard_errors((first * first).flatten(), 0.0) > 5
    rows = first[:-1] * first[1:]
    assert standard_errors(rows.flatten(), 0.0) < 5


def test_data_go_to_a_device_and_can_be_drawn_there() -> None:
    for data in (Gmm(), Rings(), Samples(torch.zeros(3, 2))):
        assert data.to(torch.device("cpu")).draw(4, seeded(0)).shape == (4, 2)
    mine = Samples(torch.zeros(3, 2))
    assert mine.to(torch.device("meta")).x.device.type == "meta"
    assert mine.x.device.type == "cpu"


@pytest.mark.parametrize("law", [Gmm(), Rings()])
def test_a_law_elsewhere_is_another_object(law: PlaneLaw) -> None:
    there = law.to(torch.device("meta"))
    assert (there.device.type, law.device.type) == ("meta", "cpu")
    assert (there.sd, there.extent) == (law.sd, law.extent)


def test_the_same_generator_gives_the_same_samples() -> None:
    for data in (Gmm(), Rings(), Samples(torch.randn(9, 2, generator=seeded(0)))):
        a, b = (positive_samples(data, 50, 0.1, seeded(7), torch.float32) for _ in range(2))
        assert torch.equal(a, b)


def test_drawing_leaves_the_data_as_they_were() -> None:
    class View(Samples):
        def draw(self, n: int, generator: torch.Generator) -> Tensor:
            return self.x[:n]

    data = View(torch.ones(4, 2))
    x = positive_samples(data, 4, 0.5, seeded(0), torch.float32)
    assert not torch.equal(x, data.x)
    assert torch.equal(data.x, torch.ones(4, 2))


def test_no_noise_gives_the_samples_themselves() -> None:
    data = Samples(torch.arange(12.0).reshape(6, 2))
    x = positive_samples(data, 100, 0.0, seeded(1), torch.float64)
    assert x.dtype == torch.float64
    assert {tuple(row) for row in x.tolist()} <= {tuple(row) for row in data.x.tolist()}


def test_every_sample_is_drawn_equally_often() -> None:
    data = Samples(torch.arange(10.0)[:, None])
    counts = data.draw(100_000, seeded(8))[:, 0].long().bincount(minlength=10)
    assert float(((counts - 10_000) / math.sqrt(9_000)).abs().max()) < 5


# -- images and files --------------------------------------------------------------------------


def test_digits() -> None:
    data = load_data(DigitsData())
    assert isinstance(data, Samples)
    assert data.x.shape == (1_797, 1, 8, 8)
    assert data.shape == (1, 8, 8)
    assert (float(data.x.min()), float(data.x.max())) == (-1.0, 1.0)
    assert torch.equal(data.x * 8, (data.x * 8).round())
    assert not is_plane_law(data)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_digits_are_those_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    if elsewhere:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    images = torch.from_numpy(load_digits().images).float()[:, None]
    assert torch.equal(digits(8), images / 8 - 1)


def test_digits_do_not_wait_for_scikit_learn() -> None:
    script = "import ebm_core.images as i, sys; i.digits(8); sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("size", [4, 16, 32])
def test_digits_resized(size: int) -> None:
    plain, resized = load_data(DigitsData()), load_data(DigitsData(size=size))
    assert isinstance(plain, Samples)
    assert isinstance(resized, Samples)
    assert resized.x.shape == (1_797, 1, size, size)
    assert float(resized.x.abs().max()) <= 1
    ink = (resized.x.mean((1, 2, 3)), plain.x.mean((1, 2, 3)))
    assert float(torch.corrcoef(torch.stack(ink))[0, 1]) > 0.98


def patches(**options: Any) -> Tensor:
    data = load_data(PatchesData(**options))
    assert isinstance(data, Samples)
    assert data.shape == PatchesData(**options).shape == data.x.shape[1:]
    return data.x


@pytest.mark.parametrize(("size", "n"), [(8, 7_700), (16, 6_716), (32, 4_940)])
def test_patches_are_as_many_as_documented(size: int, n: int) -> None:
    x = patches(size=size)
    assert len(x) == n
    assert x.shape[1:] == (1, size, size)
    assert float(x.abs().max()) <= 1
    assert float(x.flatten(1).std(1).median()) > 0.05  # structure, not only sky


def test_patches_tile_the_photographs_in_order() -> None:
    photograph = load_sample_images().images[0].astype(np.float32) / 127.5 - 1
    x = patches(size=60, channels=3, stride=60, shrink=1)
    assert len(x) == 2 * (427 // 60) * (640 // 60)
    expected = torch.from_numpy(photograph[60:120, 180:240]).permute(2, 0, 1)
    torch.testing.assert_close(x[640 // 60 + 3], expected)
    # the second half belongs to the other photograph
    assert not torch.allclose(x[len(x) // 2], x[0], atol=0.1)


def test_shrunk_patches_are_means_of_squares() -> None:
    fine = patches(size=60, channels=3, stride=60, shrink=1)
    coarse = patches(size=20, channels=3, stride=20, shrink=3)
    means = fine[0].unfold(1, 3, 3).unfold(2, 3, 3).mean((-1, -2))
    torch.testing.assert_close(coarse[0], means)


def test_neighbouring_patches_overlap_by_what_the_stride_leaves() -> None:
    x = patches(size=8, stride=2)
    assert torch.equal(x[0, :, :, 2:], x[1, :, :, :-2])
    assert not torch.equal(x[0], x[1])


def test_grey_patches_weigh_colours_as_pictures_do() -> None:
    colour, grey = (patches(size=16, channels=channels)[::100] for channels in (3, 1))
    luma = 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]
    torch.testing.assert_close(grey[:, 0], luma)


def test_the_largest_patches_fit_into_the_smallest_photographs() -> None:
    assert len(patches(size=64, shrink=6, stride=64)) == 2


@pytest.mark.parametrize(
    ("config", "kind", "attributes"),
    [
        (GmmData(modes=3, sd=0.2), Gmm, {"sd": 0.2}),
        (RingsData(rings=2), Rings, {"sd": 0.15}),
    ],
)
def test_laws_in_the_plane(config: Any, kind: type, attributes: dict[str, float]) -> None:
    data = load_data(config)
    assert type(data) is kind
    assert is_plane_law(data)
    assert {key: getattr(data, key) for key in attributes} == attributes
    assert data.draw(5, seeded(0)).shape == (5, 2)


ARRAY = np.arange(24.0).reshape(6, 2, 2)


def write(path: Path, content: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".npz":
        np.savez(path, **content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("x.npy", ARRAY, None),
        ("x.npy", ARRAY.astype(np.float32), None),
        ("x.npy", ARRAY.astype(np.uint16), None),
        ("x.npy", ARRAY.astype(">f8"), None),
        ("x.npy", np.asfortranarray(ARRAY), None),
        ("x.npz", {"only": ARRAY}, None),
        ("x.npz", {"a": ARRAY, "b": ARRAY + 1}, "a"),
        ("x.pt", torch.from_numpy(ARRAY), None),
        ("x.pt", {"a": torch.from_numpy(ARRAY).int()}, "a"),
        ("x.pth", [torch.from_numpy(ARRAY)], None),
    ],
)
def test_array_files(tmp_path: Path, name: str, content: Any, key: str | None) -> None:
    path = write(tmp_path / name, content)
    if isinstance(content, list):
        with pytest.raises(DataError, match=r"x\.pth: must hold an array, got list"):
            load_data(ArrayData(path=str(path), key=key))
        return
    data = load_data(ArrayData(path=str(path), key=key))
    assert isinstance(data, Samples)
    assert data.shape == (2, 2)
    assert data.x.dtype == torch.float32
    assert torch.equal(data.x, torch.from_numpy(ARRAY).float())


def test_a_flat_array_holds_one_number_a_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "x.npy", np.arange(5))
    assert load_data(ArrayData(path=str(path))).shape == (1,)


@pytest.mark.parametrize(
    ("name", "content", "key", "message"),
    [
        ("x.npy", np.array([{}, {}]), None, "cannot be read as an array: .*allow_pickle=False"),
        ("x.npz", {"a": np.array([{}])}, None, "cannot be read as an array: .*allow_pickle=False"),
        ("x.pt", {"a": object()}, None, "cannot be read as an array: .*[Ww]eights"),
        ("x.npy", ARRAY + 1j, None, "must hold real numbers, got complex128"),
        (
            "x.pt",
            torch.zeros(3, 2, dtype=torch.bool),
            None,
            "must hold real numbers, got torch.bo",
        ),
        ("x.npy", np.array(["a", "b"]), None, "must hold real numbers, got <U1"),
        ("x.npy", ARRAY, "a", "holds one array without a name, got data.key='a'"),
        (
            "x.npz",
            {"a": ARRAY, "b": ARRAY},
            None,
            r"`data.key` must be one of \['a', 'b'\], got N",
        ),
        ("x.npz", {"a": ARRAY}, "c", r"`data.key` must be one of \['a'\], got 'c'"),
        ("x.npy", np.zeros((0, 2)), None, r"samples must have shape \(n, \*shape\), but got \(0,"),
        ("x.npy", np.array(3.0), None, r"samples must have shape \(n, \*shape\), but got \(\)"),
        ("x.npy", np.array([[1.0, np.nan]]), None, r"x\.npy: samples must be finite"),
        ("x.npy", np.array([[1.0, 1e39]]), None, r"x\.npy: samples must be finite as float32"),
        ("x.pt", torch.tensor([[1e39]]).double() * 10, None, r"x\.pt: samples must be finite"),
    ],
)
def test_array_files_that_are_refused(
    tmp_path: Path, name: str, content: Any, key: str | None, message: str
) -> None:
    path = tmp_path / name
    write(path, content)
    with pytest.raises(DataError, match=message):
        load_data(ArrayData(path=str(path), key=key))


def test_an_array_file_that_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.npy: no such file"):
        load_data(ArrayData(path=str(tmp_path / "absent.npy")))
    damaged = write(tmp_path / "x.npy", ARRAY)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"x\.npy: cannot be read as an array"):
        load_data(ArrayData(path=str(damaged)))


def save_image(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_an_image_folder(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.full((20, 20, 3), (255, 0, 51)))
    save_image(tmp_path / "deeper" / "b.JPG", np.full((30, 40), 255))
    (tmp_path / "readme.txt").write_text("not an image")
    colour = load_data(ImageFolderData(path=str(tmp_path), size=16))
    assert isinstance(colour, Samples)
    assert colour.x.shape == (2, 3, 16, 16)
    torch.testing.assert_close(colour.x[0, :, 3, 3], torch.tensor([1.0, -1.0, -0.6]))
    torch.testing.assert_close(colour.x[1], torch.ones(3, 16, 16))
    grey = load_data(ImageFolderData(path=str(tmp_path), size=8, channels=1))
    assert isinstance(grey, Samples)
    assert grey.x.shape == (2, 1, 8, 8)
    luma = (0.299 * 255 + 0.114 * 51) / 127.5 - 1
    assert float(grey.x[0].mean()) == pytest.approx(luma, abs=0.01)


def test_images_are_cropped_about_their_centre(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30))
    pixels[:, 10:20] = 255
    save_image(tmp_path / "wide.png", pixels)
    data = load_data(ImageFolderData(path=str(tmp_path), size=10, channels=1))
    assert isinstance(data, Samples)
    torch.testing.assert_close(data.x, torch.ones(1, 1, 10, 10))


def test_images_keep_their_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3))
    pixels[0, :, 0] = 255
    save_image(tmp_path / "top.png", pixels)
    data = load_data(ImageFolderData(path=str(tmp_path), size=8))
    assert isinstance(data, Samples)
    assert data.x[0, 0, 0].tolist() == [1.0] * 8
    assert data.x[0, 0, 1].tolist() == [-1.0] * 8
    assert data.x[0, 1, 0].tolist() == [-1.0] * 8


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_grey_of_16_bit_is_scaled(tmp_path: Path, order: str) -> None:
    values = np.array([0, 257 * 100, 257 * 100 + 200, 65_535])
    pixels = np.repeat(values, 16).reshape(8, 8).astype(order)
    mode = "I;16" if order == "<u2" else "I;16B"
    image = Image.frombytes(mode, (8, 8), pixels.tobytes())
    turned = Image.Exif()
    turned[0x0112] = 3
    image.save(tmp_path / "x.tif", exif=turned)
    data = load_data(ImageFolderData(path=str(tmp_path), size=8, channels=1))
    assert isinstance(data, Samples)
    expected = np.array([255, 101, 100, 0], dtype=np.float32) / 127.5 - 1
    assert data.x[0, 0, ::2, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_an_image_without_a_range_is_named(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=rf"x\.tif: .* mode {mode} has no black and white"):
        load_data(ImageFolderData(path=str(tmp_path), size=8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_lies_on_white(tmp_path: Path, mode: str, channels: int) -> None:
    pixels = np.zeros((8, 8, 4))
    pixels[4:, :, 3] = 255
    image = Image.fromarray(pixels.astype(np.uint8))
    if mode == "P":
        image = Image.fromarray(pixels[..., 3].astype(np.uint8) // 255).convert("P")
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.info["transparency"] = 0
    image.convert(mode).save(tmp_path / "x.png")
    data = load_data(ImageFolderData(path=str(tmp_path), size=8, channels=channels))
    assert isinstance(data, Samples)
    assert bool((data.x[0, :, :4] == 1).all())
    assert bool((data.x[0, :, 4:] == -1).all())


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    save_image(tmp_path / "a.png", np.zeros((8, 8)))
    good = (tmp_path / "a.png").read_bytes()
    (tmp_path / "bad.png").write_bytes(good[: len(good) // 2] if content is None else content)
    with pytest.raises(DataError, match=r"bad\.png: cannot be read as an image"):
        load_data(ImageFolderData(path=str(tmp_path), size=8))


@pytest.mark.parametrize("folder", ["", "absent"])
def test_a_folder_without_images_is_named(tmp_path: Path, folder: str) -> None:
    with pytest.raises(DataError, match=r"holds no images \(\.bmp, "):
        load_data(ImageFolderData(path=str(tmp_path / folder), size=8))


# -- held-out data -------------------------------------------------------------------------------


def split(n: int = 500, share: float = 0.2) -> tuple[Samples, Tensor, Tensor]:
    whole = Samples(torch.arange(n)[:, None])
    parts = whole.split(share)
    assert parts.held_out is not None
    assert isinstance(parts.x, Tensor)
    assert isinstance(parts.held_out, Tensor)
    return parts, parts.x[:, 0], parts.held_out[:, 0]


def test_a_share_is_held_out_at_random_and_always_the_same() -> None:
    _, seen, unseen = split()
    assert (len(seen), len(unseen)) == (400, 100)
    assert torch.equal(torch.cat([seen, unseen]).sort().values, torch.arange(500.0))
    # sets are often sorted by what is on their images
    for values in (seen, unseen):
        assert float(values.mean()) == pytest.approx(250, abs=60)
        assert torch.equal(values, values.sort().values)
    torch.manual_seed(5)
    assert torch.equal(split()[2], unseen)


def test_what_is_held_out_is_never_drawn() -> None:
    data, seen, _ = split()
    drawn = data.draw(20_000, seeded(0))[:, 0]
    assert torch.equal(drawn.unique(), seen)


def test_a_configuration_holds_out_a_share_of_its_data() -> None:
    data = load_data(DigitsData(held_out=0.1))
    assert isinstance(data, Samples)
    assert data.held_out is not None
    assert (len(data.x), len(data.held_out)) == (1_617, 180)
    whole = load_data(DigitsData())
    assert isinstance(whole, Samples)
    assert whole.held_out is None
    apart = torch.cdist(data.held_out[:].flatten(1), whole.x[:].flatten(1)).min(1).values
    assert (apart == 0).all()


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_share_that_holds_nothing_is_refused(n: int) -> None:
    with pytest.raises(DataError, match=rf"data.held_out: 0.2 of {n} samples is under two"):
        split(n)


def test_those_held_out_must_be_like_the_others() -> None:
    data = torch.zeros(5, 1, 4, 4)
    for held_out, why in (
        (torch.zeros(5, 1, 4, 5), r"shape \(1, 4, 4\), but those held out \(1, 4, 5\)"),
        (torch.zeros(1, 1, 4, 4), "one sample that is held out"),
        (torch.full((5, 1, 4, 4), math.nan), "must be finite"),
    ):
        with pytest.raises(DataError, match=why):
            Samples(data, held_out)


def test_a_configuration_leads_to_its_data() -> None:
    config = make_config(
        {
            "data": {"name": "gmm", "modes": 5},
            "network": "toy",
            "epsilon": 0.1,
            "updates": 100,
            "window": 50,
        }
    )
    data = load_data(config.data)
    assert isinstance(data, Gmm)
    assert len(data.means) == 5
    assert data.to(torch.device("cpu")).shape == config.data.shape == (2,)
