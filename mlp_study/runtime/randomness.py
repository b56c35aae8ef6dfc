"""Random numbers that depend only on a member's seed and their purpose, never on the rest of the population."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def derived_seed(seed: int, *purpose: int | str) -> int:
    """Derive a 63-bit seed for one purpose of a run, such as ``("weights", layer)`` or ``("order", epoch)``."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """Make a generator for one purpose: a CPU's, so that a GPU run starts from the same weights."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, 2^64 over the golden ratio, as a signed number
UNITS = 2**24  # more than a layer has: the distance between two images' counters


def hashed_uniform(key_m: Tensor, units: int, images: int) -> Tensor:
    """Draw uniform numbers in [0, 1) of shape [m, units, images] from one int64 key a member, alike on every device.

    A counter-based generator: the element's index, weighed by the golden ratio, is added to the key and mixed by the
    finalizer of SplitMix64 (Steele, Lea and Flood 2014), so all members are drawn at once and each one's numbers depend
    on its key only.
    """
    import torch

    unit_O1 = torch.arange(1, units + 1, device=key_m.device, dtype=torch.int64)[:, None]
    image_B = torch.arange(images, device=key_m.device, dtype=torch.int64)
    z = key_m[:, None, None] + (unit_O1 + image_B * UNITS) * GOLDEN
    z = (z ^ _shifted(z, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    z = (z ^ _shifted(z, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    z = z ^ _shifted(z, 31)
    return _shifted(z, 40).to(torch.float32) * 2.0**-24


def from_image(key_m: Tensor, first: int) -> Tensor:
    """Move the keys on to image ``first``: a minibatch in pieces draws what the whole one does."""
    ahead = first * UNITS * GOLDEN
    return key_m + ((ahead + 2**63) % 2**64 - 2**63)  # as int64 wraps around


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift int64 right without its sign, which torch does not do."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
