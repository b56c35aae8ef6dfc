"""Reading IDX files, the format of MNIST and its relatives, plain or gzip-compressed.

Layout (Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats"): two zero bytes, one byte for the
type of the values, one for the number of dimensions, each dimension's size as a big-endian 32-bit integer, then the
values in row-major order.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.errors import DataError
from mlp_study.factors.table import lazy_module
from mlp_study.runtime import reading

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

UINT8, INT32 = 0x08, 0x0C
BYTES = {UINT8: 1, INT32: 4}
HEADER = 4 + 4 * 255  # bytes of the longest header
LARGEST = 2**30  # bytes of a file, unpacked


def read_bytes(path: Path) -> bytes:
    """Read a file's content, unpacked if its name ends in ``.gz``.

    Raises:
        DataError: there is no such file, it cannot be read, or its compressed data end early or are damaged.
    """
    try:
        content = reading.read_bytes(path, LARGEST)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not content:
        raise DataError(f"{path} is empty; get the file again")
    return unpack(content, str(path)) if path.suffix == ".gz" else content


def unpack(content: bytes, name: str) -> bytes:
    """Unpack a gzip-compressed IDX file as far as its header says; ``name`` is what an error calls it.

    Raises:
        DataError: the bytes are truncated or damaged, or its header announces more than ``LARGEST`` bytes.
    """
    if content[:2] == b"\0\0":
        raise DataError(f"{name} is not compressed though its name ends in .gz: it is a plain IDX file; rename it")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            head = file.read(HEADER)
            announced = _size(head)
            if announced > LARGEST:
                raise DataError(f"{name} announces {announced} bytes; it takes at most {LARGEST}")
            return head + file.read(max(announced - len(head), 0) + 1)  # one more shows that it is longer
    except EOFError:
        raise DataError(f"{name} is truncated: its compressed data end early; get the file again") from None
    except (OSError, zlib.error, struct.error) as error:
        raise DataError(f"{name} is not an intact gzip file ({error}); get the file again") from None


def _size(head: bytes) -> int:
    """The bytes of the file that an IDX header announces; 0 if it is none."""
    if len(head) < 4 or head[2] not in BYTES or len(head) < 4 + 4 * head[3]:
        return 0
    sizes: tuple[int, ...] = struct.unpack(f">{head[3]}I", head[4 : 4 + 4 * head[3]])
    return 4 + 4 * head[3] + BYTES[head[2]] * math.prod(sizes)


def parse(content: bytes, name: str) -> Tensor:
    """Return the tensor that an IDX file's bytes hold: uint8, or int64 for 32-bit integers.

    Raises:
        DataError: wrong magic number or value type, or more or fewer values than the header announces.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in BYTES or content[3] == 0:
        raise DataError(
            f"{name} is not an IDX file of bytes or 32-bit integers: it starts with 0x{content[:4].hex()}, "
            "an image file starts with 0x00000803 and a label file with 0x00000801"
        )
    kind, dimensions = content[2], content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(
            f"{name} is truncated: its header ends after {len(content)} of {start} bytes; get the file again"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected = start + math.prod(shape) * BYTES[kind]
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "longer than its header says"
        raise DataError(
            f"{name} is {state}: {len(content)} bytes instead of {expected} for the shape {list(shape)}; "
            "get the file again"
        )
    if expected == start:
        return torch.zeros(shape, dtype=torch.uint8 if kind == UINT8 else torch.int64)
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start)
    return values.view(shape) if kind == UINT8 else _big_endian(values).view(shape)


def _big_endian(bytes_: Tensor) -> Tensor:
    """Read signed 32-bit integers from their bytes, on a machine of either byte order."""
    digits = bytes_.view(-1, 4).to(torch.int64)
    unsigned = (digits << torch.tensor([24, 16, 8, 0])).sum(1)
    return torch.where(unsigned >= 2**31, unsigned - 2**32, unsigned)


def images_of(tensor: Tensor, name: str) -> Tensor:
    """Return ``tensor`` if it holds images, uint8 [N, H, W]; raise DataError if not."""
    if tensor.dtype != torch.uint8 or tensor.dim() != 3:
        raise DataError(
            f"{name} holds no images: its magic number announces {_kind(tensor)} instead of bytes in 3 dimensions"
        )
    if len(tensor) and not tensor.numel():
        raise DataError(f"{name} holds {len(tensor)} images of {tensor.shape[1]}x{tensor.shape[2]} pixels")
    return tensor


def labels_of(tensor: Tensor, name: str) -> Tensor:
    """Return each image's class, int64 [N], from labels [N] or the first column of QMNIST's records [N, 8].

    Raises:
        DataError: ``tensor`` is neither.
    """
    records = tensor.dtype == torch.int64 and tensor.dim() == 2 and tensor.shape[1] > 0
    if not records and (tensor.dtype != torch.uint8 or tensor.dim() != 1):
        raise DataError(
            f"{name} holds no labels: its magic number announces {_kind(tensor)} instead of bytes in 1 dimension"
        )
    return tensor[:, 0].contiguous() if records else tensor.to(torch.int64)


def _kind(tensor: Tensor) -> str:
    values = "bytes" if tensor.dtype == torch.uint8 else "32-bit integers"
    return f"{values} in {tensor.dim()} dimension{'s' if tensor.dim() > 1 else ''}"
