"""IDX files: what is read is what was written, and every way of being damaged has its own clear line."""

from __future__ import annotations

import contextlib
import gzip
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlp_study.data.idx import images_of, labels_of, parse, read_bytes
from mlp_study.errors import DataError

ARRAYS = st.sampled_from([np.uint8, np.int32]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
)


@given(array=ARRAYS)
def test_reads_what_was_written(write_idx, array):
    tensor = parse(write_idx(None, array), "file")
    assert tensor.dtype == (torch.uint8 if array.dtype == np.uint8 else torch.int64)
    assert tensor.shape == array.shape
    assert np.array_equal(tensor.numpy(), array)


@given(content=st.binary(max_size=64))
def test_any_bytes_give_a_tensor_or_one_clear_line(content):
    with contextlib.suppress(DataError):
        parse(content, "some-file")


@pytest.mark.parametrize("shape", [(3, 4, 2), (7,)])
def test_agrees_with_torchvision(tmp_path, write_idx, shape):
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    path = tmp_path / "file"
    write_idx(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert torch.equal(parse(read_bytes(path), "file"), read_sn3_pascalvincent_tensor(str(path)))


def test_a_compressed_file_reads_like_a_plain_one(tmp_path, write_idx):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "plain", array)
    write_idx(tmp_path / "packed.gz", array)
    assert read_bytes(tmp_path / "plain") == read_bytes(tmp_path / "packed.gz")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n\x1a\n", "not an IDX file of bytes or 32-bit integers: it starts with 0x89504e47"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "0x00000d01"),
        (b"\0\0\x08\0\x05", "not an IDX file"),
        (b"\0\0\x08\3\0\0\0\2\0\0", "truncated: its header ends after 10 of 16 bytes"),
        (b"\0\0\x08\1\0\0\0\3ab", "truncated: 10 bytes instead of 11 for the shape [3]"),
        (b"\0\0\x08\1\0\0\0\3abcd", "longer than its header says: 12 bytes instead of 11"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "truncated"),
    ],
)
def test_a_damaged_file_is_named(content, said):
    with pytest.raises(DataError) as caught:
        parse(content, "/folder/train-images-idx3-ubyte")
    assert said in str(caught.value)
    assert "/folder/train-images-idx3-ubyte" in str(caught.value)


def damaged(kind: str) -> bytes:
    packed = bytearray(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 6000) + b"pixels" * 1000))
    if kind == "truncated":
        return bytes(packed[:-9])
    if kind == "flipped":
        packed[-6] ^= 1
    return bytes(packed) if kind == "flipped" else b"not gzip at all"


@pytest.mark.parametrize(
    ("kind", "said"),
    [("truncated", "is truncated"), ("flipped", "not an intact gzip"), ("plain", "not an intact gzip")],
)
def test_a_damaged_compressed_file_is_named(tmp_path, kind, said):
    path = tmp_path / "file.gz"
    path.write_bytes(damaged(kind))
    with pytest.raises(DataError, match=said):
        read_bytes(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match="absent does not exist"):
        read_bytes(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_bytes(tmp_path)


def test_images_and_labels_are_not_confused():
    images, labels = torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8)
    with pytest.raises(DataError, match=r"file holds no images.* bytes in 1 dimension "):
        images_of(labels, "file")
    with pytest.raises(DataError, match=r"file holds no labels.* bytes in 3 dimensions "):
        labels_of(images, "file")
    assert images_of(images, "file") is images


def test_records_give_their_first_column():
    records = torch.tensor([[7, 0, 1], [3, 9, 9]])
    assert labels_of(records, "file").tolist() == [7, 3]
    assert labels_of(torch.tensor([1, 255], dtype=torch.uint8), "file").tolist() == [1, 255]
