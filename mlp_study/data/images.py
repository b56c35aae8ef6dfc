"""The data sets: one table, images as bytes in memory, and the seeded split of the training set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlp_study.data.archives import Source, read_source
from mlp_study.data.digits import read_digits
from mlp_study.data.idx import images_of, labels_of, parse, read_bytes
from mlp_study.errors import ConfigError, DataError
from mlp_study.factors.table import Option, Table, lazy_module
from mlp_study.runtime.randomness import generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Part = tuple[Tensor, Tensor]  # images uint8 [N, H, W], labels int64 [N]
    Content = tuple[Part, Part, tuple[str, ...]]  # training, test, names of the classes
else:
    torch = lazy_module("torch")

DIGITS = tuple("0123456789")
UPPER, LOWER = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), tuple("abcdefghijklmnopqrstuvwxyz")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
MERGED = DIGITS + UPPER + tuple("abdefghnqrt")  # letters whose two cases look alike are one class
EMNIST_CLASSES = {
    "balanced": MERGED,
    "bymerge": MERGED,
    "byclass": DIGITS + UPPER + LOWER,
    "letters": LOWER,
    "digits": DIGITS,
    "mnist": DIGITS,
}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set in memory. It is shared by all who load it: nobody changes its tensors.

    Attributes:
        name: its name in ``DATASETS``.
        train_images_NI, test_images_NI: uint8, an image a row, I = height * width pixels, row-major, 0..255.
        train_labels_N, test_labels_N: int64, each image's class, 0..C-1.
        classes: C names.
        height, width: of an image, in pixels.

    Raises:
        DataError: a part is empty, images and labels differ in number, or a label names no class.
    """

    name: str
    train_images_NI: Tensor
    train_labels_N: Tensor
    test_images_NI: Tensor
    test_labels_N: Tensor
    classes: tuple[str, ...]
    height: int
    width: int

    def __post_init__(self) -> None:
        self._check("training", self.train_images_NI, self.train_labels_N)
        self._check("test", self.test_images_NI, self.test_labels_N)

    def _check(self, part: str, images: Tensor, labels: Tensor) -> None:
        where, size = f"data={self.name}: the {part} set", f"{self.height}x{self.width}"
        if len(images) != len(labels):
            raise DataError(f"{where} has {len(images)} images and {len(labels)} labels; each image takes one label")
        if images.numel() == 0:
            raise DataError(f"{where} has {len(images)} images of {size} pixels; it takes at least one of at least 1x1")
        if images.dtype != torch.uint8 or images.shape[1:] != (self.height * self.width,):
            raise DataError(f"{where} is {images.dtype} {list(images.shape)}; it takes bytes, {size} of them an image")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(f"{where} has labels from {low} to {high}; they take 0 to {len(self.classes) - 1}")


@dataclass(frozen=True)
class Dataset:
    """One entry of ``DATASETS``: how it is read from ``data.root``, and what it is in a line."""

    read: Callable[..., Content]
    doc: str
    folder: str | None = None  # where its files lie below data.root; None: it needs none
    options: Mapping[str, Option] = field(default_factory=dict)


def _read_digits(root: Path) -> Content:
    del root  # it travels with scikit-learn
    return *read_digits(), DIGITS


def _source(
    kind: str, train: str, test: str, images: str = "images-idx3-ubyte", labels: str = "labels-idx1-ubyte"
) -> Source:
    return Source(kind, ((f"{train}-{images}", f"{train}-{labels}"), (f"{test}-{images}", f"{test}-{labels}")))


def _torchvision(source: Source, classes: tuple[str, ...], doc: str) -> Dataset:
    return Dataset(lambda root: (*read_source(source, root), classes), doc, source.folder)


def _read_emnist(root: Path, split: str) -> Content:
    """Read EMNIST, whose images lie transposed in its files and whose ``letters`` count from 1: upright and from 0."""
    train, test = read_source(_source("EMNIST", f"emnist-{split}-train", f"emnist-{split}-test"), root)
    first = 1 if split == "letters" else 0
    return (train[0].mT, train[1] - first), (test[0].mT, test[1] - first), EMNIST_CLASSES[split]


def _shuffled(rows: Tensor) -> Tensor:
    """Shuffle rows in an order that depends on their number alone: images and labels stay together."""
    return rows[torch.randperm(len(rows), generator=generator(0, "order of a folder"))]


def _read_idx(root: Path) -> Content:
    """Read any folder of four IDX files under MNIST's names; classes are 0 to the training set's largest label.

    The training set is shuffled, by a fixed seed: it may lie sorted by class, and probes, the look-ahead and
    ``data.limit`` take the first images of the training split.
    """

    def read(name: str) -> tuple[Tensor, str]:
        dotted = name.replace("-idx", ".idx")  # as some unpackers name them
        names = (name, f"{name}.gz", dotted, f"{dotted}.gz")
        path = next((root / name for name in names if (root / name).exists()), None)
        if path is None:
            raise DataError(
                f"{root} has no {name} or {name}.gz; name the folder that holds the four IDX files "
                "by data.root=FOLDER, or run data=digits, which needs none"
            )
        return parse(read_bytes(path), str(path)), str(path)

    train, test = (
        (images_of(*read(f"{part}-images-idx3-ubyte")), labels_of(*read(f"{part}-labels-idx1-ubyte")))
        for part in ("train", "t10k")
    )
    largest = int(train[1].max()) if len(train[1]) else 0
    return (_shuffled(train[0]), _shuffled(train[1])), test, tuple(str(label) for label in range(largest + 1))


DATASETS: Table[Dataset] = Table(
    "data",
    {
        "digits": Dataset(_read_digits, "scikit-learn's 1,797 digits resized to 28x28; embedded: no files, no network"),
        "mnist": _torchvision(_source("MNIST", "train", "t10k"), DIGITS, "handwritten digits, 60,000 + 10,000, 28x28"),
        "fashion_mnist": _torchvision(
            _source("FashionMNIST", "train", "t10k"), CLOTHES, "photographs of clothes, 60,000 + 10,000, 28x28"
        ),
        "kmnist": _torchvision(
            _source("KMNIST", "train", "t10k"), KANA, "cursive Japanese characters, 60,000 + 10,000, 28x28"
        ),
        "qmnist": _torchvision(
            _source("QMNIST", "qmnist-train", "qmnist-test", labels="labels-idx2-int"),
            DIGITS,
            "MNIST rebuilt from its source, 60,000 + 60,000, 28x28",
        ),
        "emnist": Dataset(
            _read_emnist,
            "handwritten letters and digits, 28x28, in six splits",
            "EMNIST/raw",
            {"split": Option("balanced", doc="which of EMNIST's sets", choices=tuple(EMNIST_CLASSES))},
        ),
        "idx": Dataset(_read_idx, "your own: data.root is a folder of IDX files under MNIST's names, .gz or not", "."),
    },
)


def load(name: str, root: Path | str = "data", **options: Any) -> ImageSet:
    """Load the data set ``name`` and keep it for the next call as long as its files stay the same.

    Args:
        name: a key of ``DATASETS``.
        root: folder of the data sets, in torchvision's layout; for ``idx`` the folder of the files themselves.
        options: the entry's own, such as ``split="letters"`` for ``emnist``.

    Raises:
        ConfigError: the name or an option is unknown.
        DataError: files are missing and cannot be downloaded, or are damaged, or contradict each other.
    """
    entry = DATASETS[name]
    for key in options:
        if key not in entry.options:
            choices = f"one of: {', '.join(entry.options)}" if entry.options else "none"
            raise ConfigError(f"data.{key} is no option of data={name}; it takes {choices}")
    chosen = {
        key: option.check(f"data.{key}", options.get(key, option.default)) for key, option in entry.options.items()
    }
    folder = Path(root).expanduser().resolve()
    return _load(name, folder, tuple(sorted(chosen.items())), _fingerprint(folder, entry.folder))


def _fingerprint(root: Path, folder: str | None) -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of a data set's files, which tell whether it has changed."""
    if folder is None or not (root / folder).is_dir():
        return ()
    stats = [(path.name, path.stat()) for path in sorted((root / folder).iterdir()) if path.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=4)
def _load(name: str, root: Path, options: tuple[tuple[str, Any], ...], fingerprint: object) -> ImageSet:
    del fingerprint
    try:
        train, test, classes = DATASETS[name].read(root, **dict(options))
    except DataError as error:
        raise DataError(f"data={name}: {error}") from None
    (height, width), other = train[0].shape[1:], test[0].shape[1:]
    if other != (height, width):
        raise DataError(
            f"data={name}: training images are {height}x{width} pixels and test images {other[0]}x{other[1]}; "
            "they take one size"
        )
    flat = [images.reshape(len(images), height * width) for images, _ in (train, test)]
    return ImageSet(name, flat[0], train[1], flat[1], test[1], classes, height, width)


@dataclass(frozen=True)
class Sizes:
    """How large a training is.

    Attributes:
        train: images of the training split, the same for every seed.
        validation: images that validate.
        batch: images in a minibatch.
    """

    train: int
    validation: int
    batch: int

    @property
    def steps(self) -> int:
        """Minibatches in an epoch; the last, partial one is kept, as Keras does."""
        return -(-self.train // self.batch)


def held_out(total: int, validation: float | Literal["test"]) -> int:
    """Count how many of ``total`` training images validate; see ``split``, also for what it raises."""
    held = 0 if validation == "test" else max(1, round(total * validation))
    if held >= total:
        raise DataError(f"data.validation={validation} of {total} training images leaves none to train on")
    return held


def split(labels_N: Tensor, validation: float | Literal["test"], seed: int) -> tuple[Tensor, Tensor]:
    """Split rows into training and validation, each int64, ascending; together every row of ``labels_N`` once.

    Args:
        labels_N: labels of the official training set; only their number counts.
        validation: the share of it that validates, rounded to whole images, at least one. ``"test"`` keeps all of it
            for training and returns no validation rows: the caller then validates on the official test set.
        seed: which images validate; how many does not depend on it.

    Raises:
        DataError: the share leaves no image to train on.
    """
    total = len(labels_N)
    held = held_out(total, validation)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[held:].sort().values, order[:held].sort().values
