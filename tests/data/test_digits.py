"""The embedded digits: scikit-learn's, enlarged without rounding luck, with one split for ever."""

from __future__ import annotations

import hashlib

import pytest
import torch

from mlp_study.data import digits
from mlp_study.data.images import load
from mlp_study.errors import DataError


@pytest.fixture(scope="module")
def bunch():
    from sklearn.datasets import load_digits

    return load_digits()


def test_the_table_is_scikit_learns(bunch):
    small_N88, labels_N = digits._read_small()
    assert torch.equal(small_N88, torch.from_numpy(bunch.images).long())
    assert torch.equal(labels_N, torch.from_numpy(bunch.target).long())


def test_enlarging_is_bilinear(bunch):
    small = torch.from_numpy(bunch.images)[:, None] * (255 / 16)
    expected = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)[:, 0]
    enlarged = digits._enlarge(torch.from_numpy(bunch.images).long())
    assert (enlarged.double() - expected).abs().max() <= 0.5 + 1e-9
    assert enlarged.min() == 0
    assert enlarged.max() == 255


def test_training_and_test_part_make_up_the_whole_once(bunch):
    (train, train_labels), (test, test_labels) = digits.read_digits()
    whole = digits._enlarge(torch.from_numpy(bunch.images).long())
    rows = sorted(bytes(row) for row in torch.cat([train, test]).flatten(1).numpy())
    assert rows == sorted(bytes(row) for row in whole.flatten(1).numpy())
    assert sorted(torch.cat([train_labels, test_labels]).tolist()) == sorted(bunch.target.tolist())


def test_the_test_part_is_stratified_and_fixed():
    images = load("digits")
    assert images.test_labels_N.bincount().tolist() == [36] * 10
    assert images.train_images_NI.shape == (1437, 784)
    share = images.train_labels_N.bincount() / 1437
    assert share.min() > 0.095
    assert share.max() < 0.105
    content = b"".join(
        t.byte().numpy().tobytes()
        for t in (images.train_images_NI, images.train_labels_N, images.test_images_NI, images.test_labels_N)
    )
    assert hashlib.sha256(content).hexdigest() == "8d134efe08ed431a894c7c972d17ca7f6652d2c733302301b7fabc74b48dba69"


def test_a_broken_installation_is_named(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"digits\.csv\.gz is missing or damaged; install scikit-learn again"):
        digits.read_digits()
