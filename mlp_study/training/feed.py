"""Minibatches as indices: what each member sees in each step, drawn from its seed alone.

Shape letters: R distinct orders (seeds), G distinct input streams (an order, a scale and a gain), N images,
S minibatches in a block, B minibatch, I pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlp_study.data.images import split
from mlp_study.errors import ConfigError
from mlp_study.factors.normalizers import NORMALIZERS, side_by_side
from mlp_study.runtime.randomness import generator

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet
    from mlp_study.factors.normalizers import AffineTransform, Transform

BLOCK_STEPS = 50  # minibatches in a block: enough to make the Trainer's cost per block vanish
BLOCK_WORK = 4_000  # member-steps in a block on a CPU: a signal is answered within about a second
BLOCK_BYTES = 64 * 2**20  # scaled pixels of a block on a CPU
EVALUATION_BYTES = 64 * 2**20  # largest tensor of an evaluation chunk
EVALUATION_BYTES_GPU = 2**30


@dataclass(frozen=True)
class Block:
    """Some steps' minibatches: indices [R, S, B] into the images of ``split``, and the first step's number."""

    split: str
    index_RSB: Tensor
    first_step: int = 0


Fitted = dict[tuple[int, str], Any]  # (split seed, scale) -> its Transform on the CPU


@dataclass(frozen=True)
class StreamKey:
    """What makes two members see the same numbers: order of the images, split, scale and gain."""

    seed: int
    split_seed: int
    scale: str
    gain: float


def stream_key(config: RunConfig) -> StreamKey:
    """Return the input stream of a run."""
    split_seed = config.seed if config.data.split_seed is None else config.data.split_seed
    fixed = config.data.validation == "test"  # nothing is split off: all seeds train on the same images
    order = 0 if config.data.batch_size == "full" and fixed else config.seed
    return StreamKey(order, 0 if fixed else split_seed, config.data.scale, config.data.gain)


class Feed:
    """All input streams of a population on one device: images stay uint8, a minibatch is an index.

    Args:
        configs: one config a member, all with the same data set, validation and batch size.
        images: the data set.
        fitted: normalizers that are fitted already; new ones are added.

    Attributes:
        sizes: of the training, the same for every member.
        keys: the G distinct streams.
        orders: the R distinct orders, each a seed and the seed of its split.
        shares: whether the members of each stream stand next to each other, so that they share its images; else every
            member is dealt a copy of its own.
        per_stream: how many members each of the model's inputs feeds: a stream's, or one.
    """

    def __init__(self, configs: Sequence[RunConfig], images: ImageSet, fitted: Fitted | None = None) -> None:
        self.images, self.data, self._precision = images, configs[0].data, configs[0].trainer.precision
        self.sizes = self.data.sizes(images)
        last = self.sizes.train % self.sizes.batch or self.sizes.batch
        if last == 1 and any(c.model.norm == "batch" for c in configs):  # the variance of one image is none
            raise ConfigError(
                f"model.norm=batch with data.batch_size={self.data.batch_size}: the last minibatch of "
                f"{self.sizes.train} training images has 1; it takes two or more in each"
            )
        members = [stream_key(c) for c in configs]
        counts = Counter(members)
        self.keys, self.members = list(counts), len(configs)
        number = {key: g for g, key in enumerate(self.keys)}
        self._stream_of_member = torch.tensor([number[key] for key in members])
        self.shares = bool((self._stream_of_member.diff() >= 0).all())
        self.per_stream = list(counts.values()) if self.shares else [1] * len(configs)
        streams: dict[tuple[int, int], list[int]] = {}
        for g, key in enumerate(self.keys):
            streams.setdefault((key.seed, key.split_seed), []).append(g)
        self.orders, self._streams_of_order = list(streams), list(streams.values())
        self._order_of_stream = torch.empty(len(self.keys), dtype=torch.int64)
        for r, some in enumerate(self._streams_of_order):
            self._order_of_stream[some] = r
        self._order_of_member = self._order_of_stream[self._stream_of_member]
        self.pixels = {"train": images.train_images_NI, "test": images.test_images_NI}
        self.labels = {"train": images.train_labels_N, "test": images.test_labels_N}
        self._splits = {s: self._split(s) for s in dict.fromkeys(order[1] for order in self.orders)}
        self.transforms = self._fit({} if fitted is None else fitted)
        self._at_once: AffineTransform | None = None

    def train_index(self, key: StreamKey) -> Tensor:
        """Return the indices of a stream's training split, [N]."""
        return self._splits[key.split_seed][0]

    def _split(self, seed: int) -> tuple[Tensor, Tensor]:
        train, val = split(self.labels["train"], self.data.validation, seed)
        if self.data.limit is not None:
            if self.data.limit > len(train):
                raise ConfigError(f"data.limit={self.data.limit} exceeds the {len(train)} images of the training split")
            train = train[: self.data.limit]
        return train, val

    def _fit(self, fitted: Fitted) -> list[Transform]:
        """Fit each stream's normalizer on its own training split only."""
        for key in self.keys:
            if (key.split_seed, key.scale) not in fitted:
                train_NI = self.pixels["train"][self.train_index(key)]
                fitted[key.split_seed, key.scale] = NORMALIZERS[key.scale].fit(train_NI)
        return [fitted[key.split_seed, key.scale].with_gain(key.gain) for key in self.keys]

    def to(self, device: torch.device | str) -> Feed:
        """Move images, labels and transforms to a device, in place."""
        self.pixels = {k: v.to(device) for k, v in self.pixels.items()}
        self.labels = {k: v.to(device) for k, v in self.labels.items()}
        self.transforms = [t.to(device) for t in self.transforms]
        self._stream_of_member = self._stream_of_member.to(device)
        self._order_of_stream = self._order_of_stream.to(device)
        self._order_of_member = self._order_of_member.to(device)
        if not self._on_cpu:  # there the calls for each stream would take longer than their arithmetic
            exact = self._precision == "64"
            together = side_by_side(self.transforms, torch.float64 if exact else torch.float32)
            self._at_once = None if together is None else together.to(device)
        return self

    @property
    def _on_cpu(self) -> bool:
        return self.labels["train"].device.type == "cpu"

    def train_blocks(self, epoch: int) -> Iterator[Block]:
        """Yield one epoch's blocks; every seed has its own order of its own training split."""
        if self.data.batch_size == "full":
            index_RN = torch.stack([self._splits[split_seed][0] for _, split_seed in self.orders])
            yield Block("train", index_RN[:, None])
            return
        orders = []
        for seed, split_seed in self.orders:
            train = self._splits[split_seed][0]
            orders.append(train[torch.randperm(len(train), generator=generator(seed, "order", epoch))])
        index_RN, size = torch.stack(orders), self.sizes.batch
        whole = self.sizes.train // size
        for first in range(0, whole, self._steps_per_block):
            last = min(first + self._steps_per_block, whole)
            yield Block("train", index_RN[:, first * size : last * size].view(len(orders), -1, size), first)
        if whole * size < self.sizes.train:
            yield Block("train", index_RN[:, None, whole * size :], whole)

    @property
    def _steps_per_block(self) -> int:
        if not self._on_cpu:  # a step of thousands takes milliseconds, and so does what the Trainer does around a block
            return BLOCK_STEPS
        pixel_bytes = 4 * len(self.keys) * self.sizes.batch * self.pixels["train"].shape[1]
        return max(1, min(BLOCK_STEPS, BLOCK_WORK // self.members, BLOCK_BYTES // pixel_bytes))

    def evaluation_blocks(self, part: str, widest: int) -> list[Block]:
        """Return the images of ``part`` (train, val or test) in chunks, for layers of up to ``widest`` units."""
        where = "test" if part == "test" or (part == "val" and self.data.validation == "test") else "train"
        if where == "test":
            index_RN = torch.arange(len(self.labels["test"])).expand(len(self.orders), -1)
        else:
            index_RN = torch.stack([self._splits[split_seed][part == "val"] for _, split_seed in self.orders])
        per_image = 4 * max(self.members * widest, len(self.per_stream) * self.pixels["train"].shape[1])
        chunk = max(64, (EVALUATION_BYTES if self._on_cpu else EVALUATION_BYTES_GPU) // per_image)
        return [Block(where, piece_RB[:, None]) for piece_RB in index_RN.split(chunk, dim=1)]

    def inputs(self, block: Block, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return what the model takes of a block, [inputs, S, B, I]: its scaled images, dealt out."""
        return self.dealt(self.scaled(block, dtype))

    def dealt(self, x_GBI: Tensor) -> Tensor:
        """Return each stream's images [G, ...], or each member's [K, ...] where neighbours share no stream."""
        return x_GBI if self.shares else x_GBI.index_select(0, self._stream_of_member)

    def scaled(self, block: Block, dtype: torch.dtype = torch.float32, out: Tensor | None = None) -> Tensor:
        """Scale a block's images for each stream, [G, S, B, I].

        Args:
            block: which images.
            dtype: the arithmetic of the weights.
            out: memory to write them to; fresh pages for every block would cost more than the scaling itself.
        """
        index_RSB = block.index_RSB.to(self.pixels[block.split].device)
        if out is None:
            shape = (len(self.keys), *index_RSB.shape[1:], self.pixels["train"].shape[1])
            out = torch.empty(shape, dtype=dtype, device=index_RSB.device)
        pixels_NI = self.pixels[block.split]
        if self._at_once is not None:
            raw_RNI = pixels_NI.index_select(0, index_RSB.flatten()).view(len(index_RSB), -1, pixels_NI.shape[1])
            self._at_once.write(raw_RNI.index_select(0, self._order_of_stream), out.view(len(out), *raw_RNI.shape[1:]))
            return out
        raw_NI = torch.empty((index_RSB[0].numel(), pixels_NI.shape[1]), dtype=pixels_NI.dtype, device=pixels_NI.device)
        for index_SB, streams in zip(index_RSB, self._streams_of_order, strict=True):
            torch.index_select(pixels_NI, 0, index_SB.flatten(), out=raw_NI)
            for g in streams:
                self.transforms[g].write(raw_NI, out[g].view(raw_NI.shape))
        return out

    def targets(self, block: Block) -> Tensor:
        """Return each member's labels, [K, S, B], int64."""
        labels_RSB = self.labels[block.split][block.index_RSB.to(self.labels[block.split].device)]
        return labels_RSB.expand(self.members, -1, -1) if len(self.orders) == 1 else labels_RSB[self._order_of_member]
