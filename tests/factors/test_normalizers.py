"""Normalizers against numpy and scikit-learn, back and forth, and where a naive formula would divide by zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlp_study.errors import ConfigError, DataError
from mlp_study.factors.normalizers import NORMALIZERS, RIDGE, side_by_side

IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


def pictures(count: int = 400, pixels: int = 30, seed: int = 0) -> np.ndarray:
    """Images like MNIST's in small: correlated, dark, some pixels constant (the last three: 0, 255 and 7)."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, 8)) @ rng.normal(size=(8, pixels)) * 60
    images = (mixed + rng.normal(size=(count, pixels)) * 20 + rng.integers(-200, 200, pixels)).clip(0, 255)
    images[:, -3:] = [0, 255, 7]
    return images.astype(np.uint8)


def fitted(name: str, images: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
    transform = NORMALIZERS[name].fit(torch.from_numpy(images))
    result = transform(torch.from_numpy(images if x is None else x))
    assert result.dtype == torch.float32
    return result.double().numpy()


def by_numpy(name: str, images: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Each element-wise normalizer in float64, straight from its definition."""
    fit, x = images.astype(np.float64), x.astype(np.float64)
    if name == "robust":
        median = np.median(fit, axis=0)
        deviation = 1.4826022 * np.median(np.abs(fit - median), axis=0)
        everywhere = np.sqrt(np.pi / 2) * np.abs(fit - median).mean()
        return (x - median) / np.where(deviation > 0, deviation, everywhere)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return {
        "none": x,
        "unit": x / 255,
        "symmetric": x / 127.5 - 1,
        "standard": (x - fit.mean()) / fit.std(),
        "unit_norm": np.divide(x, norm, out=np.zeros_like(x), where=norm > 0),
    }[name]


@pytest.mark.parametrize("name", ["none", "unit", "symmetric", "standard", "robust", "unit_norm"])
@pytest.mark.parametrize("count", [400, 401])
def test_agrees_with_numpy_on_other_images_too(name, count):
    images, others = pictures(count), pictures(50, seed=1)
    np.testing.assert_allclose(fitted(name, images, others), by_numpy(name, images, others), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("count", [2, 400])
def test_pixel_standard_is_scikit_learns(count):
    from sklearn.preprocessing import StandardScaler

    images, others = pictures(count), pictures(50, seed=1)
    expected = StandardScaler().fit(images.astype(np.float64)).transform(others.astype(np.float64))
    np.testing.assert_allclose(fitted("pixel_standard", images, others), expected, rtol=2e-6, atol=2e-5)


def test_the_global_ones_have_their_range_and_moments():
    images = pictures()
    images[0, :2] = [0, 255]
    unit, symmetric, standard = (fitted(name, images) for name in ("unit", "symmetric", "standard"))
    assert (unit.min(), unit.max()) == (0, 1)
    assert (symmetric.min(), symmetric.max()) == (-1, 1)
    assert abs(standard.mean()) < 1e-6
    assert abs(standard.std() - 1) < 1e-6
    assert np.array_equal(fitted("none", images), images)


@pytest.mark.parametrize("name", ["whiten", "whiten_pca"])
def test_whitening_is_the_ridged_inverse_root_of_the_covariance(name):
    images, others = pictures(), pictures(50, seed=1)
    covariance = np.cov(images.T.astype(np.float64), ddof=0)
    ridge = RIDGE * np.trace(covariance) / len(covariance)
    z = fitted(name, images, others)
    centred = others - images.mean(0)
    # every whitening has the same inner products, those of the Mahalanobis distance
    expected = centred @ np.linalg.inv(covariance + ridge * np.eye(len(covariance))) @ centred.T
    np.testing.assert_allclose(z @ z.T, expected, rtol=1e-4, atol=1e-3)


def test_zca_is_symmetric_and_pca_is_scikit_learns_axes():
    from sklearn.decomposition import PCA

    images = pictures()
    zca, pca = (NORMALIZERS[name].fit(torch.from_numpy(images)) for name in ("whiten", "whiten_pca"))
    torch.testing.assert_close(zca.matrix_II, zca.matrix_II.t())
    assert torch.linalg.eigvalsh(zca.matrix_II.double()).min() > 0
    theirs = PCA(svd_solver="full").fit(images.astype(np.float64))
    variance = theirs.explained_variance_ * (len(images) - 1) / len(images)
    expected = theirs.transform(images.astype(np.float64)) / np.sqrt(variance + RIDGE * variance.mean())
    ours = pca(torch.from_numpy(images)).double().numpy()
    for axis in range(8):  # beyond the strong ones, the order of nearly equal axes is anyone's
        sign = np.sign(ours[:, axis] @ expected[:, axis])
        np.testing.assert_allclose(ours[:, axis], sign * expected[:, axis], rtol=1e-3, atol=1e-3)
    assert (pca.matrix_II.gather(0, pca.matrix_II.abs().argmax(0, keepdim=True)) > 0).all()


def test_whitened_images_have_unit_variance_where_there_is_signal():
    images = pictures(4000)
    covariance = np.cov(fitted("whiten_pca", images).T, ddof=0)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-4)
    assert np.diag(covariance)[:4].min() > 0.98
    assert np.diag(covariance).max() <= 1 + 1e-5


# ---- properties that all share


@settings(max_examples=40)
@given(images=IMAGES, gain=st.sampled_from([1.0, 0.25, 3.0]))
@pytest.mark.parametrize("name", list(NORMALIZERS))
def test_any_bytes_give_finite_numbers_times_the_gain(name, images, gain):
    pixels_NI = torch.from_numpy(images)
    transform = NORMALIZERS[name].fit(pixels_NI).with_gain(gain)
    scaled_NI = transform(pixels_NI)
    assert scaled_NI.shape == pixels_NI.shape
    assert scaled_NI.isfinite().all()
    torch.testing.assert_close(scaled_NI, NORMALIZERS[name].fit(pixels_NI)(pixels_NI) * gain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(transform(pixels_NI.float()), scaled_NI)


@pytest.mark.parametrize("name", ["standard", "pixel_standard", "robust", "whiten", "whiten_pca"])
@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_constant_images_become_zero_and_nothing_divides_by_it(name, value, count):
    images = np.full((count, 5), value, dtype=np.uint8)
    assert np.abs(fitted(name, images)).max() <= 1e-4
    assert np.isfinite(fitted(name, images, pictures(5, pixels=5))).all()


@pytest.mark.parametrize("name", ["pixel_standard", "robust"])
def test_constant_pixels_become_zero_exactly(name):
    scaled = fitted(name, pictures())
    assert np.array_equal(scaled[:, -3:], np.zeros((400, 3)))
    assert np.abs(scaled[:, :-3]).max() < 100


def test_an_all_black_image_stays_black_under_unit_norm():
    images = np.array([[0, 0, 0], [0, 3, 4]], dtype=np.uint8)
    np.testing.assert_allclose(fitted("unit_norm", images), [[0, 0, 0], [0, 0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize("name", list(NORMALIZERS))
def test_fitting_and_applying_change_no_input_and_any_leading_shape_works(name):
    pixels_NI = torch.from_numpy(pictures())
    kept = pixels_NI.clone()
    transform = NORMALIZERS[name].fit(pixels_NI).to("cpu")
    floats_NI = pixels_NI.float()
    scaled_NI = transform(floats_NI)
    assert torch.equal(pixels_NI, kept)
    assert torch.equal(floats_NI, kept.float())
    assert scaled_NI.data_ptr() != floats_NI.data_ptr()
    torch.testing.assert_close(transform(pixels_NI.view(4, 100, -1)), scaled_NI.view(4, 100, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(NORMALIZERS))
def test_the_same_images_in_any_order_fit_the_same_transform(name):
    images = pictures(1000)
    shuffled = np.random.default_rng(0).permutation(images)
    assert np.array_equal(fitted(name, images), fitted(name, shuffled, images))


@pytest.mark.parametrize("name", list(NORMALIZERS))
def test_what_is_no_image_is_refused(name):
    for bad in (torch.zeros(0, 4, dtype=torch.uint8), torch.zeros(4, 0, dtype=torch.uint8), torch.zeros(2, 2)):
        with pytest.raises(DataError, match="takes at least one image"):
            NORMALIZERS[name].fit(bad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_side_by_side_gives_each_the_numbers_that_it_gives_alone(dtype):
    images_NI = torch.from_numpy(pictures())
    names = ["none", "unit", "symmetric", "standard", "pixel_standard", "robust"]
    fits = [NORMALIZERS[name].fit(images_NI).with_gain(1 + k / 3) for k, name in enumerate(names)]
    for chosen in (fits, fits[:4]):
        raw_GNI = torch.stack([images_NI.roll(g, 0) for g in range(len(chosen))])
        together, alone = torch.empty(raw_GNI.shape, dtype=dtype), torch.empty(raw_GNI.shape, dtype=dtype)
        side_by_side(chosen, dtype).write(raw_GNI, together)
        for transform, raw_NI, out_NI in zip(chosen, raw_GNI, alone, strict=True):
            transform.write(raw_NI, out_NI)
        assert torch.equal(together, alone)
    assert side_by_side([*fits, NORMALIZERS["unit_norm"].fit(images_NI)], dtype) is None


def test_the_table_lists_the_contract_and_names_the_nearest():
    contract = {"none", "unit", "symmetric", "standard", "pixel_standard", "robust", "whiten", "unit_norm"}
    assert contract <= set(NORMALIZERS)
    assert all(entry.formula and entry.source for entry in NORMALIZERS.values())
    with pytest.raises(ConfigError, match=r"data\.scale='whitn' is unknown; did you mean 'whiten'"):
        NORMALIZERS["whitn"]


# ---- real data


def test_mnist_has_its_well_known_mean_and_deviation(mnist_root):
    from mlp_study.data.images import load

    images_NI = load("mnist", mnist_root).train_images_NI
    transform = NORMALIZERS["standard"].fit(images_NI)
    assert transform.shift / 255 == pytest.approx(0.1307, abs=5e-5)
    assert 1 / transform.scale / 255 == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NORMALIZERS))
@pytest.mark.parametrize("data", ["mnist", "fashion_mnist"])
def test_no_real_image_is_blown_up(mnist_root, data, name):
    from mlp_study.data.images import load

    images = load(data, mnist_root)
    transform = NORMALIZERS[name].fit(images.train_images_NI)
    assert transform(images.test_images_NI[:1000]).abs().max() < 1000
