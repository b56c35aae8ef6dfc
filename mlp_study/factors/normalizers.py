"""How pixels are scaled before the first layer: one table of normalizers, each fitted on training images only.

Shape letters: N images, I pixels of an image.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

from mlp_study.errors import DataError
from mlp_study.factors.table import Table, lazy_module

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np, torch = lazy_module("numpy"), lazy_module("torch")

EXACT_ROWS = 256  # 256 * 255**2 < 2**24: sums of that many products of two bytes are exact in float32, in any order
RIDGE = 0.01  # of the mean variance of a pixel: directions with less variance than that are mostly rounding noise


@dataclass(frozen=True, eq=False)
class Transform(abc.ABC):
    """A fitted normalizer: frozen, the same for training, validation and test images."""

    @abc.abstractmethod
    def write(self, x_NI: Tensor, out_NI: Tensor) -> None:
        """Scale pixels [..., I], bytes or floats in 0..255, into ``out_NI`` and in its dtype: no fresh memory."""

    def __call__(self, x_NI: Tensor) -> Tensor:
        """Return pixels as the network sees them: float32, a new tensor."""
        out_NI = torch.empty(x_NI.shape, dtype=torch.float32, device=x_NI.device)
        self.write(x_NI, out_NI)
        return out_NI

    @abc.abstractmethod
    def with_gain(self, gain: float) -> Transform:
        """Return the same transform followed by a multiplication by ``gain``, a finite number other than 0."""

    def to(self, device: torch.device | str) -> Self:
        """Return the same transform on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v if isinstance(v, float) else v.to(device) for k, v in values.items()})


@dataclass(frozen=True, eq=False)
class AffineTransform(Transform):
    """``(x - shift) * scale``, each one number or one per pixel, float32 [I]; see also ``side_by_side``."""

    shift: float | Tensor = 0.0
    scale: float | Tensor = 1.0

    def write(self, x_NI: Tensor, out_NI: Tensor) -> None:
        """See Transform."""
        out_NI.copy_(x_NI)
        if not (isinstance(self.shift, float) and self.shift == 0):
            out_NI.sub_(self.shift)
        if not (isinstance(self.scale, float) and self.scale == 1):
            out_NI.mul_(self.scale)

    def with_gain(self, gain: float) -> AffineTransform:
        """See Transform."""
        return replace(self, scale=self.scale * gain)


def side_by_side(transforms: Sequence[Transform], dtype: torch.dtype) -> AffineTransform | None:
    """Stack G affine transforms into one for images [G, N, I]; None if one of them is not affine.

    The same numbers in three operations instead of some for each. It is made on the CPU.

    Args:
        transforms: G of them.
        dtype: of the images that it will write.
    """
    affine = [t for t in transforms if isinstance(t, AffineTransform)]
    if len(affine) < len(transforms):
        return None

    def stacked(values: Sequence[float | Tensor]) -> Tensor:
        pixels = max(1 if isinstance(v, float) else len(v) for v in values)
        rows = [torch.full((pixels,), v, dtype=dtype) if isinstance(v, float) else v.cpu().to(dtype) for v in values]
        return torch.stack(rows)[:, None]

    return AffineTransform(stacked([t.shift for t in affine]), stacked([t.scale for t in affine]))


@dataclass(frozen=True, eq=False)
class LinearTransform(Transform):
    """``(x - shift_I) @ matrix_II``, both float32."""

    shift_I: Tensor
    matrix_II: Tensor

    def write(self, x_NI: Tensor, out_NI: Tensor) -> None:
        """See Transform."""
        out_NI.copy_(torch.sub(x_NI, self.shift_I).to(torch.float32) @ self.matrix_II)

    def with_gain(self, gain: float) -> LinearTransform:
        """See Transform."""
        return replace(self, matrix_II=self.matrix_II * gain)


@dataclass(frozen=True, eq=False)
class UnitNormTransform(Transform):
    """``gain * x / |x|`` for each image, and zeros for an all-zero image. It forgets each image's brightness."""

    gain: float = 1.0

    def write(self, x_NI: Tensor, out_NI: Tensor) -> None:
        """See Transform."""
        out_NI.copy_(x_NI)
        norm_N1: Tensor = torch.linalg.vector_norm(out_NI, dim=-1, keepdim=True)
        out_NI.mul_(torch.where(norm_N1 > 0, self.gain / norm_N1, 0.0))

    def with_gain(self, gain: float) -> UnitNormTransform:
        """See Transform."""
        return UnitNormTransform(self.gain * gain)


@dataclass(frozen=True)
class Normalizer:
    """One entry of ``NORMALIZERS``: ``fit(images_NI)`` takes training images, uint8 [N, I], N and I at least 1.

    Raises:
        DataError: no images, or pixels that are not bytes.
    """

    learn: Callable[[Tensor], Transform]
    formula: str
    source: str

    def fit(self, images_NI: Tensor) -> Transform:
        """Fit the transform to these images, which are not changed."""
        if images_NI.dtype != torch.uint8 or images_NI.dim() != 2 or images_NI.numel() == 0:
            raise DataError(
                f"a normalizer was given {images_NI.dtype} {list(images_NI.shape)}; it takes at least one image of at "
                "least one pixel, in bytes [N, I]"
            )
        return self.learn(images_NI)


def _fixed(transform: Transform) -> Callable[[Tensor], Transform]:
    return lambda _: transform


def _exact_pieces(images_NI: Tensor) -> Iterator[Tensor]:
    """Yield images in float32, so few at a time that sums of their squares and products are exact integers."""
    for piece in images_NI.split(EXACT_ROWS):
        yield piece.to(torch.float32)


def _moments(images_NI: Tensor) -> tuple[Tensor, Tensor]:
    """Compute each pixel's exact sum and sum of squares, float64 [I]: one pass, no copy of the images."""
    sums_2I = torch.zeros(2, images_NI.shape[1], dtype=torch.float64, device=images_NI.device)
    for piece in _exact_pieces(images_NI):
        sums_2I[0] += piece.sum(0)
        sums_2I[1] += piece.square_().sum(0)
    return sums_2I[0], sums_2I[1]


def _inverse_or_one(spread: Tensor) -> Tensor:
    """Return 1/spread, and 1 where there is none: a constant pixel becomes 0 by its shift alone."""
    return spread.where(spread > 0, 1.0).reciprocal()


def _standard(images_NI: Tensor) -> Transform:
    total, squares = (float(v.sum()) / images_NI.numel() for v in _moments(images_NI))
    deviation = math.sqrt(max(squares - total**2, 0.0))
    return AffineTransform(total, 1 / deviation if images_NI.min() < images_NI.max() else 1.0)


def _pixel_standard(images_NI: Tensor) -> Transform:
    sum_I, squares_I = _moments(images_NI)
    count = len(images_NI)
    deviation_I = (count * squares_I - sum_I**2).clamp(min=0).sqrt() / count  # whole numbers: exactly 0 if constant
    return AffineTransform((sum_I / count).float(), _inverse_or_one(deviation_I).float())


def _robust(images_NI: Tensor) -> Transform:
    """Scale by each pixel's median and median absolute deviation (MAD); one that is 0 in most images has no MAD.

    Iglewicz and Hoaglin then take the mean absolute deviation. Here it is the mean over all pixels: a pixel's own, for
    one lit in a few images, would blow those up to tens of thousands. Both estimate a normal distribution's deviation.
    """
    doubled_IN = images_NI.t().contiguous().cpu().numpy().astype(np.int16) * 2  # of whole numbers all medians are whole
    median_I = np.median(doubled_IN, axis=1)
    distance_IN = np.abs(doubled_IN - median_I.astype(np.int16)[:, None])
    median_I, median_deviation_I = (
        torch.from_numpy(doubled_I / 2).to(images_NI.device) for doubled_I in (median_I, np.median(distance_IN, axis=1))
    )
    median_deviation_I = median_deviation_I * 1.482602218505602  # 1 / normal quantile of 3/4
    mean_deviation = float(distance_IN.sum(dtype=np.int64)) / 2 / images_NI.numel() * math.sqrt(math.pi / 2)
    spread_I = median_deviation_I.where(median_deviation_I > 0, mean_deviation)
    return AffineTransform(median_I.float(), _inverse_or_one(spread_I).float())


def _principal_axes(images_NI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean [I], axes [I, I] in columns, and each axis's deviation [I] with the ridge, largest first; float64.

    Signs are fixed (each axis's largest entry is positive), so that equal images give equal transforms.
    """
    count, pixels = images_NI.shape
    products_II = torch.zeros(pixels, pixels, dtype=torch.float64, device=images_NI.device)
    for piece in _exact_pieces(images_NI):
        products_II += piece.t() @ piece
    mean_I = _moments(images_NI)[0] / count
    variance_I, axes_II = torch.linalg.eigh(products_II / count - torch.outer(mean_I, mean_I))
    variance_I, axes_II = variance_I.flip(0).clamp(min=0), axes_II.flip(1)
    largest_1I = axes_II.gather(0, axes_II.abs().argmax(0, keepdim=True))
    axes_II = axes_II * largest_1I.sign()
    ridge = RIDGE * variance_I.mean() if images_NI.amax(0).ne(images_NI.amin(0)).any() else variance_I.new_tensor(1.0)
    return mean_I, axes_II, (variance_I + ridge).sqrt()


def _whiten_pca(images_NI: Tensor) -> Transform:
    mean_I, axes_II, deviation_I = _principal_axes(images_NI)
    return LinearTransform(mean_I.float(), (axes_II / deviation_I).float())


def _whiten(images_NI: Tensor) -> Transform:
    mean_I, axes_II, deviation_I = _principal_axes(images_NI)
    return LinearTransform(mean_I.float(), ((axes_II / deviation_I) @ axes_II.t()).float())


LECUN = "LeCun, Bottou, Orr, Müller 1998, Efficient BackProp, section 4.3"

NORMALIZERS: Table[Normalizer] = Table(
    "data.scale",
    {
        "none": Normalizer(_fixed(AffineTransform()), "x, raw pixels 0..255", "none"),
        "unit": Normalizer(_fixed(AffineTransform(0.0, 1 / 255)), "x / 255, in [0, 1]", "common practice"),
        "symmetric": Normalizer(
            _fixed(AffineTransform(127.5, 1 / 127.5)), "x / 127.5 - 1, in [-1, 1]", "Sarle, neural-nets FAQ, part 2"
        ),
        "standard": Normalizer(_standard, "(x - mean) / deviation, over all pixels", LECUN),
        "pixel_standard": Normalizer(_pixel_standard, "(x - mean_i) / deviation_i, for each pixel i", LECUN),
        "robust": Normalizer(
            _robust,
            "(x - median_i) / (1.4826 MAD_i), for each pixel i; where MAD_i is 0, / (1.2533 mean |x - median|) of all",
            "Iglewicz 1983, Robust scale estimators; Iglewicz, Hoaglin 1993, How to detect and handle outliers",
        ),
        "whiten": Normalizer(
            _whiten,
            "ZCA: U (L + r)^(-1/2) U' (x - mean), covariance U L U', r 1 % of the mean variance",
            "Bell, Sejnowski 1997, section 5; ridge as in Coates, Ng, Lee 2011",
        ),
        "whiten_pca": Normalizer(
            _whiten_pca,
            "PCA: (L + r)^(-1/2) U' (x - mean), covariance U L U', r 1 % of the mean variance",
            f"{LECUN}; Kessy, Lewin, Strimmer 2018",
        ),
        "unit_norm": Normalizer(_fixed(UnitNormTransform()), "x / |x|, for each image", "cosine similarity"),
    },
)
