"""The normalizer sees the training split and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.data.images import ImageSet, split
from mlp_study.factors.normalizers import NORMALIZERS
from mlp_study.training.feed import Feed

FITTED = ["standard", "pixel_standard", "robust", "whiten", "whiten_pca"]


@pytest.fixture
def images() -> ImageSet:
    """300 training and 60 test images of 6x5 pixels."""
    chance = torch.Generator().manual_seed(0)
    pixels_NI = torch.randint(0, 200, (360, 30), generator=chance, dtype=torch.uint8)
    labels_N = torch.arange(360) % 4
    return ImageSet("digits", pixels_NI[:300], labels_N[:300], pixels_NI[300:], labels_N[300:], tuple("abcd"), 6, 5)


def scaled(scale: str, images: ImageSet, probe_NI: torch.Tensor) -> torch.Tensor:
    config = RunConfig.from_dict(compose([f"data.scale={scale}", "data.validation=0.2", "data.gain=0.5", "seed=3"]))
    return Feed([config], images).transforms[0](probe_NI)


def defaced(images: ImageSet, **rows: torch.Tensor) -> ImageSet:
    """The same set with other pixels in the given rows of its training or test images."""
    changed = {}
    for part, index in rows.items():
        pixels_NI = getattr(images, part).clone()
        pixels_NI[index] = 255 - pixels_NI[index] // 3
        changed[part] = pixels_NI
    return replace(images, **changed)


@pytest.mark.parametrize("scale", FITTED)
def test_validation_and_test_images_change_nothing_and_training_images_do(images, scale):
    train, validation = split(images.train_labels_N, 0.2, 3)
    probe_NI = images.train_images_NI[:50]
    before = scaled(scale, images, probe_NI)
    unseen = defaced(images, train_images_NI=validation, test_images_NI=torch.arange(len(images.test_labels_N)))
    assert torch.equal(scaled(scale, unseen, probe_NI), before)
    assert not torch.equal(scaled(scale, defaced(images, train_images_NI=train[:40]), probe_NI), before)
    assert torch.equal(before, NORMALIZERS[scale].fit(images.train_images_NI[train]).with_gain(0.5)(probe_NI))
