"""The examples that a person trains on: tensors in memory, or batches that are read anew each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset
from torch.utils.data._utils.collate import default_collate

from mlp_study.doctor.clock import now
from mlp_study.errors import DataError

SMALL = 4_000_000  # numbers; a data set up to this size is shuffled as a whole at an epoch's start
TAKES = "a DataLoader, a Dataset, or (x, y) of tensors, arrays or DataFrames"


@dataclass
class Examples:
    """What one epoch reads.

    Attributes:
        parts: a batch's tensors for all N examples, such as x [N, ...] and y [N, ...]; empty where a loader is read.
        loader: gives an epoch's batches each time that it is iterated.
        n: how many examples an epoch has.
        epoch_steps: how many steps the user's epoch has, where only a part of their examples is here.
        names: the labels' own names, where they were words: y holds their places in this list.
    """

    parts: tuple[Tensor, ...] = ()
    loader: Iterable[Any] | None = None
    n: int = 0
    epoch_steps: int | None = None
    names: tuple[Any, ...] = ()

    def batches(self, batch_size: int | None, shuffle: bool, rng: torch.Generator) -> Iterator[Any]:
        """The batches of one epoch, as lists of tensors or as the user's own loader gives them."""
        if self.loader is not None:
            yield from self._read(batch_size, shuffle, rng)
            return
        size = min(batch_size or self.n, self.n)
        if not shuffle:
            yield from map(list, zip(*(part.split(size) for part in self.parts), strict=True))
            return
        order_N = torch.randperm(self.n, generator=rng, device="cpu").to(self.parts[0].device)
        if sum(part.numel() for part in self.parts) <= SMALL:
            yield from map(list, zip(*(part[order_N].split(size) for part in self.parts), strict=True))
        else:
            for chosen_B in order_N.split(size):
                yield [part[chosen_B] for part in self.parts]

    def _read(self, batch_size: int | None, shuffle: bool, rng: torch.Generator) -> Iterator[Any]:
        loader = self.loader
        if isinstance(loader, DataLoader):
            options: dict[str, Any] = {"collate_fn": loader.collate_fn, "num_workers": 0}
            if batch_size is not None and batch_size != loader.batch_size:
                loader = DataLoader(loader.dataset, batch_size, shuffle=shuffle, generator=rng, **options)
            elif shuffle and type(loader.sampler).__name__ in ("SequentialSampler", "RandomSampler"):
                loader = DataLoader(
                    loader.dataset,
                    loader.batch_size,
                    shuffle=True,
                    drop_last=loader.drop_last,
                    generator=rng,
                    **options,
                )
            yield from loader
            return
        batches = list(loader or ())
        order = torch.randperm(len(batches), generator=rng).tolist() if shuffle else range(len(batches))
        yield from (batches[i] for i in order)

    def __iter__(self) -> Iterator[Any]:
        """All examples in their order: what a fix's printed code reads from a loader."""
        return self.batches(256, False, torch.Generator()) if self.parts else iter(self.loader or ())

    def steps(self, batch_size: int | None) -> int:
        """Steps of an epoch of these examples."""
        if self.loader is None:
            return -(-self.n // min(batch_size or self.n, self.n))
        if isinstance(self.loader, DataLoader) and batch_size not in (None, self.loader.batch_size):
            return -(-self.n // int(batch_size or 1))
        return len(self.loader)  # type: ignore[arg-type]

    def sample(
        self, most: int, seconds: float, batch_size: int | None, shuffle: bool, rng: torch.Generator
    ) -> Examples:
        """At most ``most`` of the examples, in memory and in their order; a random choice where order means nothing."""
        if self.parts:
            if self.n <= most:
                return self
            chosen = torch.randperm(self.n, generator=rng, device="cpu")[:most]
            chosen = (chosen if shuffle else chosen.sort().values).to(self.parts[0].device)
            parts = tuple(part[chosen] for part in self.parts)
            return Examples(parts, None, most, self.steps(batch_size), self.names)
        began, batches, seen = now(), [], 0
        for batch in self.batches(batch_size, shuffle, rng):
            batches.append(batch)
            seen += size_of(batch)
            if seen >= most or now() - began > seconds:
                break
        if not batches:
            raise DataError(f"data gives no batch; diagnose takes {TAKES} with at least one example")
        parts = _joined(batches)
        whole = self.steps(batch_size)
        return Examples(parts, None if parts else batches, seen, whole, self.names)


def _joined(batches: list[Any]) -> tuple[Tensor, ...]:
    """The batches as whole tensors, where each is a tuple of tensors with one row an example; else nothing."""
    if not all(isinstance(b, (list, tuple)) and b and all(isinstance(part, Tensor) for part in b) for b in batches):
        return ()
    shapes = {tuple((part.shape[1:], part.dtype) for part in batch) for batch in batches}
    rows = all(part.ndim and len(part) == len(batch[0]) for batch in batches for part in batch)
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True)) if len(shapes) == 1 and rows else ()


def size_of(batch: Any) -> int:
    """How many examples a batch has: the length of its first tensor."""
    first = next(tensors_in(batch), None)
    return len(first) if first is not None and first.ndim else 1


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """All tensors of a nested batch."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from tensors_in(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from tensors_in(value)


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with all tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(moved(value, device) for value in batch)
    return batch


def taken(  # noqa: PLR0911 - one for each kind
    data: Any, batch_size: int | None, shuffle: bool
) -> tuple[Examples, int | None, bool, bool]:
    """Examples, batch size, whether they are shuffled, and whether y came as PyTorch has it, of what people pass.

    Raises:
        DataError: data is a stream, empty, or none of what is taken.
    """
    if hasattr(data, "train_dataloader"):
        if hasattr(data, "setup"):
            data.prepare_data()
            data.setup("fit")
        data = data.train_dataloader()
    if isinstance(data, DataLoader):
        return _of_loader(data, batch_size)
    if isinstance(data, IterableDataset):
        return _of_loader(DataLoader(data, batch_size or 32), None)
    if isinstance(data, Dataset) or _is_pairs(data):
        loader = DataLoader(data, min(batch_size or 32, max(len(data), 1)), shuffle=shuffle)
        return _of_loader(loader, None)
    if isinstance(data, Tensor) or _is_array(data):
        x = tensor_of("x", data)[0]
        return Examples((x,), None, len(x)), min(batch_size or 32, len(x)), shuffle, True
    if isinstance(data, dict) and {"x", "y"} <= set(data):
        data = (data["x"], data["y"])
    if isinstance(data, (list, tuple)) and len(data) >= 2 and not isinstance(data[0], (list, tuple, dict)):
        return _of_arrays(data, batch_size, shuffle)
    if isinstance(data, (list, tuple)) and data and next(tensors_in(data), None) is not None:
        batches = list(data)
        return Examples((), batches, sum(map(size_of, batches))), size_of(batches[0]), shuffle, True
    if isinstance(data, (list, tuple)) and len(data) == 2:
        return _of_arrays(data, batch_size, shuffle)
    if isinstance(data, Iterator):
        raise DataError(f"data is a {type(data).__name__}, which can be read only once; diagnose takes {TAKES}")
    raise DataError(f"data is a {type(data).__name__}; diagnose takes {TAKES}")


def _is_pairs(data: Any) -> bool:
    """Whether it is a list of single examples (x, y): PyTorch takes one as a data set."""
    first = data[0] if isinstance(data, (list, tuple)) and data else None
    if not isinstance(first, (list, tuple)) or len(first) != 2 or not isinstance(first[0], (Tensor, np.ndarray)):
        return False
    return isinstance(first[1], (int, float, np.number)) or getattr(first[1], "ndim", 1) == 0


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "to_numpy")


def _of_arrays(data: Any, batch_size: int | None, shuffle: bool) -> tuple[Examples, int | None, bool, bool]:
    found = [tensor_of("x" if i == 0 else "y", value) for i, value in enumerate(data)]
    parts = tuple(tensor for tensor, _ in found)
    lengths = {len(part) if part.ndim else -1 for part in parts}
    if len(lengths) > 1 or lengths <= {0, -1}:
        shapes = " and ".join(str(list(part.shape)) for part in parts)
        raise DataError(f"x and y have shapes {shapes}; they take the same number of examples each, at least one")
    n = len(parts[0])
    plain = all(isinstance(value, Tensor) for value in data[1:])
    return Examples(parts, None, n, None, found[1][1]), min(batch_size or 32, n), shuffle, plain


def tensor_of(name: str, value: Any) -> tuple[Tensor, tuple[Any, ...]]:
    """A tensor of a tensor, an array, a DataFrame or a list, and the names of classes that were words.

    Raises:
        DataError: it holds no numbers.
    """
    if isinstance(value, Tensor):
        return value.detach(), ()
    array = value.to_numpy() if hasattr(value, "to_numpy") else np.asarray(value)
    try:
        if array.dtype == object and name == "x":
            array = array.astype(np.float64)
        elif array.dtype.kind in "OUS":
            names, codes = np.unique(array.astype(str), return_inverse=True)
            return torch.as_tensor(codes.reshape(array.shape)), tuple(names.tolist())
        return torch.as_tensor(np.require(array, requirements=["C", "W"])), ()  # copied where it may not be written to
    except (TypeError, ValueError) as error:
        words = [c for c in getattr(value, "columns", ()) if getattr(value[c].dtype, "kind", "O") not in "biuf"]
        where = f" whose column {words[0]!r} holds {value[words[0]].dtype}" if words else f" of {array.dtype}"
        raise DataError(f"{name} is a {type(value).__name__}{where}; it takes numbers") from error


def _of_loader(loader: DataLoader[Any], batch_size: int | None) -> tuple[Examples, int | None, bool, bool]:
    """What the user's loader reads, without its workers: whole tensors where it does no more than batch them."""
    dataset, size = loader.dataset, batch_size or loader.batch_size
    shuffle = isinstance(loader.sampler, RandomSampler)
    plain = type(loader.sampler).__name__ in ("SequentialSampler", "RandomSampler") and size is not None
    if isinstance(dataset, IterableDataset):
        if isinstance(dataset, Iterator) or iter(dataset) is iter(dataset):
            raise DataError(f"data is a stream that can be read only once; diagnose takes {TAKES}")
        batches = DataLoader(dataset, size, collate_fn=loader.collate_fn)
        every = list(batches)
        return Examples((), every, sum(map(size_of, every))), size, False, True
    n = len(dataset)  # type: ignore[arg-type]
    if isinstance(dataset, TensorDataset) and plain and loader.collate_fn is default_collate:
        kept = n - n % int(size or 1) if loader.drop_last and n > int(size or 1) else n
        return Examples(tuple(t.detach()[:kept] for t in dataset.tensors), None, kept), size, shuffle, True
    options: dict[str, Any] = {"collate_fn": loader.collate_fn, "num_workers": 0}
    if plain:
        mine: DataLoader[Any] = DataLoader(dataset, loader.batch_size, shuffle, drop_last=loader.drop_last, **options)
    else:
        mine = DataLoader(dataset, batch_sampler=loader.batch_sampler, **options)
    return Examples((), mine, n), size, shuffle, True
