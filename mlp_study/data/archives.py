"""The public data sets in their original files, found as torchvision lays them out and checked as torchvision does.

Only the original archives are kept, and they are read without unpacking them: a folder that cannot be written to
serves as well as any other, and every file that is read has a checksum. A folder with torchvision's unpacked files
alone serves too.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.data.idx import images_of, labels_of, parse, read_bytes, unpack
from mlp_study.errors import DataError
from mlp_study.runtime.reading import opened

if TYPE_CHECKING:
    from torch import Tensor

    Part = tuple[Tensor, Tensor]  # images uint8 [N, H, W], labels int64 [N]

CURE = (
    "put the original files there, name a folder that has them by data.root=FOLDER or MLP_STUDY_DATA, "
    "or run data=digits, which needs none"
)


@dataclass(frozen=True)
class Archive:
    """One original file: its name, MD5 sum and addresses, and the unpacked names of the IDX files that it holds."""

    name: str
    md5: str
    urls: tuple[str, ...]
    holds: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A data set of torchvision: its class there, and its images and labels files for training and for test."""

    kind: str
    parts: tuple[tuple[str, str], tuple[str, str]]

    @property
    def folder(self) -> str:
        """Where the files lie below ``data.root``, as in torchvision."""
        return f"{self.kind}/raw"

    def archives(self) -> list[Archive]:
        """List the original files that the parts come from, as torchvision's class does."""
        kind: Any = getattr(importlib.import_module("torchvision.datasets"), self.kind)
        if hasattr(kind, "url"):  # EMNIST: one archive for all its splits
            files = tuple(name for part in self.parts for name in part)
            return [Archive(kind.url.rsplit("/", 1)[-1], kind.md5, (kind.url,), files)]
        if isinstance(kind.resources, dict):  # QMNIST: full addresses, by part
            listed = [(url, md5, (url,)) for part in ("train", "test") for url, md5 in kind.resources[part]]
        else:
            listed = [(name, md5, tuple(mirror + name for mirror in kind.mirrors)) for name, md5 in kind.resources]
        return [Archive(Path(name).name, md5, urls, (Path(name).stem,)) for name, md5, urls in listed]


def read_source(source: Source, root: Path) -> tuple[Part, Part]:
    """Read training and test part, each (images uint8 [N, H, W], labels int64 [N]); download what ``root`` lacks.

    Raises:
        DataError: files are missing or damaged and cannot be downloaded, or their content is not what it should be.
    """
    folder = root / source.folder
    archives = source.archives()
    _complete(folder, archives)
    archive_of = {name: archive.name for archive in archives for name in archive.holds}

    def part(images: str, labels: str) -> Part:
        read = {name: parse(_content(folder, archive_of[name], name), str(folder / name)) for name in (images, labels)}
        return images_of(read[images], str(folder / images)), labels_of(read[labels], str(folder / labels))

    train, test = source.parts
    return part(*train), part(*test)


def _content(folder: Path, archive: str, name: str) -> bytes:
    """Read the bytes of one IDX file, from its archive or, where there is none, unpacked."""
    path = folder / archive
    if not path.exists():
        return read_bytes(next((p for p in _unpacked(folder, name) if p.is_file()), folder / name))
    if path.suffix != ".zip":
        return read_bytes(path)
    import zipfile

    try:
        with zipfile.ZipFile(path) as bundle:
            return unpack(bundle.read(f"gzip/{name}.gz"), f"{path}:{name}")
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} does not hold gzip/{name}.gz ({error})") from None


def _unpacked(folder: Path, name: str) -> tuple[Path, Path]:
    """Where an unpacked file may lie: some unpackers name it ``train-images.idx3-ubyte``."""
    return folder / name, folder / name.replace("-idx", ".idx")


def _complete(folder: Path, archives: list[Archive]) -> None:
    """Download what is missing or damaged in ``folder``; raise DataError if that is not possible."""
    faults = {archive: fault for archive in archives if (fault := _fault(folder, archive))}
    if not faults:
        return
    from mlp_study.data.downloads import download

    try:
        download(folder, [(a.name, a.md5, a.urls) for a in faults])
    except OSError as error:
        names = {fault: ", ".join(a.name for a in faults if faults[a] == fault) for fault in faults.values()}
        found = "; ".join(f"{fault}: {named}" for fault, named in names.items())
        raise DataError(f"in {folder}, {found}; no download ({error.strerror or error}); {CURE}") from None


def _fault(folder: Path, archive: Archive) -> str:
    """Say what is wrong with an archive in ``folder``; empty if it can be used."""
    import hashlib

    path = folder / archive.name
    try:
        if not path.exists():
            return "" if all(any(p.is_file() for p in _unpacked(folder, name)) for name in archive.holds) else "missing"
        with opened(path) as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (OSError, ValueError) as error:
        return f"unreadable ({getattr(error, 'strerror', None) or error})"
    return "" if md5 == archive.md5 else f"damaged (its MD5 sum is {md5}, not {archive.md5})"
