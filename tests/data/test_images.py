"""Data sets: read from their files as torchvision reads them, checked, kept, and split by seed."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlp_study.data.images import CLOTHES, DATASETS, DIGITS, EMNIST_CLASSES, KANA, ImageSet, load, split
from mlp_study.errors import ConfigError, DataError


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*"))


# ---- real MNIST and Fashion-MNIST


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_reads_originals_as_torchvision_does_and_writes_nothing(mnist_root, tmp_path, name, kind):
    import torchvision

    before = listing(mnist_root)
    images = load(name, mnist_root)
    assert listing(mnist_root) == before
    shutil.copytree(mnist_root / kind, tmp_path / kind, copy_function=shutil.copyfile)
    (tmp_path / kind / "raw").chmod(0o755)
    for train, pixels, labels in (
        (True, images.train_images_NI, images.train_labels_N),
        (False, images.test_images_NI, images.test_labels_N),
    ):
        theirs = getattr(torchvision.datasets, kind)(tmp_path, train=train, download=True)
        assert torch.equal(pixels, theirs.data.flatten(1))
        assert torch.equal(labels, theirs.targets)
    for archive in (tmp_path / kind / "raw").glob("*.gz"):
        archive.unlink()  # torchvision's unpacked files alone
    again = load(name, tmp_path)
    assert torch.equal(again.train_images_NI, images.train_images_NI)
    assert torch.equal(again.test_labels_N, images.test_labels_N)


def test_mnist_is_the_one_everybody_knows(mnist_root):
    images = load("mnist", mnist_root)
    assert images.train_labels_N[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert images.train_labels_N.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    unit = images.train_images_NI.double() / 255
    assert (round(float(unit.mean()), 4), round(float(unit.std()), 4)) == (0.1307, 0.3081)
    assert load("mnist", mnist_root) is images


# ---- torchvision's other sets, in small


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_class_names_are_torchvisions():
    from torchvision import datasets

    assert [name.split(" - ")[0] for name in datasets.MNIST.classes] == list(DIGITS)
    assert tuple(datasets.FashionMNIST.classes) == CLOTHES
    assert tuple(datasets.KMNIST.classes) == KANA
    for name, classes in datasets.EMNIST.classes_split_dict.items():
        assert tuple(c for c in classes if c != "N/A") == EMNIST_CLASSES[name]


def test_qmnist_reads_as_torchvision_does(tmp_path, write_idx):
    import torchvision

    raw, rng = tmp_path / "QMNIST" / "raw", np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        write_idx(raw / f"qmnist-{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(raw / f"qmnist-{part}-labels-idx2-int", rng.integers(0, 10, (count, 8), dtype=np.int32))
    images = load("qmnist", tmp_path)
    train = torchvision.datasets.QMNIST(tmp_path, train=True)
    test = torchvision.datasets.QMNIST(tmp_path, train=False)
    assert torch.equal(images.train_images_NI, train.data.flatten(1))
    assert torch.equal(images.test_labels_N, test.targets[:, 0])


@pytest.mark.parametrize("name", list(EMNIST_CLASSES))
def test_emnist_reads_as_torchvision_does_upright(tmp_path, write_idx, monkeypatch, name):
    import torchvision

    raw, rng, first = tmp_path / "EMNIST" / "raw", np.random.default_rng(0), int(name == "letters")
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / "gzip.zip", "w") as bundle:
        for part in ("train", "test"):
            pixels = rng.integers(0, 256, (6, 28, 28), dtype=np.uint8)
            labels = rng.integers(first, 10, 6, dtype=np.uint8)
            for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
                packed = gzip.compress(write_idx(None, array))
                bundle.writestr(f"gzip/emnist-{name}-{part}-{kind}-ubyte.gz", packed)
    monkeypatch.setattr(torchvision.datasets.EMNIST, "md5", md5(raw / "gzip.zip"))
    packed = load("emnist", tmp_path, split=name)
    theirs = torchvision.datasets.EMNIST(tmp_path, name, train=True, download=True)
    assert torch.equal(packed.train_images_NI, theirs.data.mT.flatten(1))
    assert torch.equal(packed.train_labels_N, theirs.targets - first)
    assert packed.classes == EMNIST_CLASSES[name]
    (raw / "gzip.zip").unlink()
    unpacked = load("emnist", tmp_path, split=name)
    assert torch.equal(packed.test_images_NI, unpacked.test_images_NI)


def test_emnists_default_split_is_balanced_and_letters_have_26_classes():
    assert DATASETS["emnist"].options["split"].default == "balanced"
    assert len(EMNIST_CLASSES["balanced"]) == 47
    assert len(EMNIST_CLASSES["byclass"]) == 62
    assert EMNIST_CLASSES["letters"] == tuple(string.ascii_lowercase)


# ---- any folder of IDX files


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_reads_any_size(tmp_path, write_set, ending):
    arrays = write_set(tmp_path, ending=ending)
    images = load("idx", tmp_path)
    assert (images.height, images.width, images.classes) == (5, 3, ("0", "1", "2", "3"))
    written = zip(arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"], strict=True)
    read = zip(images.train_images_NI.tolist(), images.train_labels_N.tolist(), strict=True)
    assert sorted(read) == sorted((image.flatten().tolist(), label) for image, label in written)
    assert np.array_equal(images.test_images_NI.numpy(), arrays["t10k-images-idx3-ubyte"].reshape(8, 15))
    assert np.array_equal(images.test_labels_N.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert images.train_images_NI.dtype == torch.uint8
    assert images.train_labels_N.dtype == torch.int64


def test_a_folder_sorted_by_class_has_all_classes_among_its_first_training_images(tmp_path, write_set, write_idx):
    write_set(tmp_path, train=1000)
    write_idx(tmp_path / "train-labels-idx1-ubyte", (np.arange(1000) // 250).astype(np.uint8))
    first_N = load("idx", tmp_path).train_labels_N[:200]
    assert first_N.bincount().tolist() == pytest.approx([50] * 4, abs=22)  # four deviations
    load.__globals__["_load"].cache_clear()
    assert torch.equal(load("idx", tmp_path).train_labels_N[:200], first_N)


def test_idx_takes_one_image_of_one_pixel(tmp_path, write_set):
    write_set(tmp_path, train=1, test=1, size=(1, 1))
    assert load("idx", tmp_path).train_images_NI.shape == (1, 1)


FAULTS = {
    "wrong magic": ("train-images-idx3-ubyte", lambda w, p: p.write_bytes(b"RIFF" * 9), "not an IDX file"),
    "labels for images": (
        "t10k-images-idx3-ubyte",
        lambda w, p: w(p, np.zeros(8, np.uint8)),
        "t10k-images-idx3-ubyte holds no images",
    ),
    "truncated": ("train-images-idx3-ubyte", lambda w, p: p.write_bytes(p.read_bytes()[:-1]), "is truncated"),
    "label count": (
        "train-labels-idx1-ubyte",
        lambda w, p: w(p, np.zeros(19, np.uint8)),
        "the training set has 20 images and 19 labels",
    ),
    "label range": (
        "t10k-labels-idx1-ubyte",
        lambda w, p: w(p, np.full(8, 4, np.uint8)),
        "the test set has labels from 4 to 4; they take 0 to 3",
    ),
    "other size": (
        "t10k-images-idx3-ubyte",
        lambda w, p: w(p, np.zeros((8, 3, 5), np.uint8)),
        "training images are 5x3 pixels and test images 3x5",
    ),
    "missing": ("t10k-labels-idx1-ubyte", lambda w, p: p.unlink(), "has no t10k-labels-idx1-ubyte"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_one_clear_line_and_the_next_good_attempt_works(tmp_path, write_set, write_idx, fault):
    arrays = write_set(tmp_path)
    load("idx", tmp_path)
    name, damage, said = FAULTS[fault]
    damage(write_idx, tmp_path / name)
    with pytest.raises(DataError) as caught:
        load("idx", tmp_path)
    assert said in str(caught.value)
    assert str(caught.value).startswith("data=idx")
    assert "\n" not in str(caught.value)
    write_idx(tmp_path / name, arrays[name])
    assert load("idx", tmp_path).train_images_NI.shape == (20, 15)


@pytest.mark.parametrize(("train", "test", "part"), [(0, 8, "training"), (20, 0, "test")])
def test_an_empty_set_is_refused(tmp_path, write_set, train, test, part):
    write_set(tmp_path, train=train, test=test)
    with pytest.raises(DataError, match=f"the {part} set has 0 images"):
        load("idx", tmp_path)


def test_images_without_pixels_are_refused(tmp_path, write_set):
    write_set(tmp_path, size=(0, 3))
    with pytest.raises(DataError, match="20 images of 0x3 pixels"):
        load("idx", tmp_path)


def test_a_missing_folder_names_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"absent has no train-images.*data\.root=FOLDER.*data=digits"):
        load("idx", tmp_path / "absent")


def test_pixels_that_are_not_bytes_are_refused():
    pixels, labels = torch.full((2, 4), torch.nan), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(DataError, match=r"torch\.float32"):
        ImageSet("mine", pixels, labels, pixels, labels, ("a",), 2, 2)
    with pytest.raises(DataError, match="labels from -1 to 0"):
        ImageSet("mine", pixels.byte(), labels - torch.tensor([0, 1]), pixels.byte(), labels, ("a",), 2, 2)


# ---- the table, options, and what is kept


def test_a_loaded_set_is_kept_until_its_files_change(tmp_path, write_set):
    write_set(tmp_path)
    first = load("idx", tmp_path)
    assert load("idx", str(tmp_path)) is first
    write_set(tmp_path, train=24)
    assert len(load("idx", tmp_path).train_labels_N) == 24


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ConfigError, match="data='minst' is unknown; did you mean 'mnist'"):
        load("minst")
    with pytest.raises(ConfigError, match=r"data\.split is no option of data=mnist; it takes none"):
        load("mnist", split="letters")
    with pytest.raises(ConfigError, match=r"data\.parts is no option of data=emnist; it takes one of: split"):
        load("emnist", parts="letters")
    with pytest.raises(ConfigError, match=r"data\.split='leters' is unknown; did you mean 'letters'"):
        load("emnist", split="leters")


def test_every_entry_says_what_it_is():
    assert list(DATASETS) == ["digits", "mnist", "fashion_mnist", "kmnist", "qmnist", "emnist", "idx"]
    assert all(entry.doc for entry in DATASETS.values())


# ---- the split


@given(total=st.integers(2, 300), share=st.floats(0.001, 0.999), seed=st.integers(0, 2**63 - 1))
def test_a_split_deals_every_image_once_and_its_sizes_ignore_the_seed(total, share, seed):
    labels_N = torch.zeros(total, dtype=torch.int64)
    try:
        train, validation = split(labels_N, share, seed)
    except DataError:
        assert round(share * total) >= total
        return
    assert torch.equal(torch.cat([train, validation]).sort().values, torch.arange(total))
    assert torch.equal(train, train.sort().values)
    assert len(validation) == max(1, round(share * total))
    assert [len(part) for part in split(labels_N, share, 0)] == [len(train), len(validation)]
    assert torch.equal(validation, split(labels_N, share, seed)[1])


def test_a_split_follows_its_seed_alone():
    labels_N = torch.zeros(1000, dtype=torch.int64)
    first = split(labels_N, 0.1, 0)[1]
    torch.manual_seed(1)
    assert torch.equal(first, split(labels_N, 0.1, 0)[1])
    other = split(labels_N, 0.1, 1)[1]
    assert len(set(first.tolist()) & set(other.tolist())) < 40


def test_validating_on_the_test_set_keeps_every_image_for_training():
    train, validation = split(torch.zeros(9, dtype=torch.int64), "test", 0)
    assert train.tolist() == list(range(9))
    assert len(validation) == 0


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(DataError, match=r"data\.validation=0\.1 of 1 training images leaves none"):
        split(torch.zeros(1, dtype=torch.int64), 0.1, 0)
