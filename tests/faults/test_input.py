"""Bad data and bad command lines: one clear line, no traceback, no hang, nothing half written."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from mlp_study.config.schema import GROUPS, described_settings
from tests.faults.commands import Server, said_clearly
from tests.sweep.sweeps import SMALL, results

pytestmark = pytest.mark.slow


def idx(path: Path, kind: int, shape: tuple[int, ...], content: bytes) -> None:
    path.write_bytes(bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content)


def write_set(folder: Path, images: int = 40, side: int = 4, labels: list[int] | None = None) -> None:
    """A data set of its own in IDX files."""
    folder.mkdir(exist_ok=True)
    chance = random.Random(0)
    labels = [i % 3 for i in range(images)] if labels is None else labels
    for part in ("train", "t10k"):
        pixels = bytes(chance.randrange(256) for _ in range(images * side * side))
        idx(folder / f"{part}-images-idx3-ubyte", 8, (images, side, side), pixels)
        idx(folder / f"{part}-labels-idx1-ubyte", 8, (len(labels),), bytes(labels))


def no_images(folder: Path) -> None:
    write_set(folder, images=0, labels=[])


def one_image(folder: Path) -> None:
    write_set(folder, images=1, labels=[0])


def one_class(folder: Path) -> None:
    write_set(folder, labels=[0] * 40)


def a_class_is_missing(folder: Path) -> None:
    write_set(folder, labels=[0, 2, 5, 9] * 10)


def labels_out_of_range(folder: Path) -> None:
    write_set(folder, labels=[0, 1, 2, 255] * 10)


def more_labels_than_images(folder: Path) -> None:
    write_set(folder, labels=[0] * 41)


def truncated(folder: Path) -> None:
    write_set(folder)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:100])


def floats_with_nan(folder: Path) -> None:
    write_set(folder)
    content = struct.pack(">640f", *([float("nan")] * 640))
    idx(folder / "train-images-idx3-ubyte", 0x0D, (40, 4, 4), content)


def a_huge_header(folder: Path) -> None:
    write_set(folder)
    idx(folder / "train-images-idx3-ubyte", 8, (2**32 - 1, 2**32 - 1, 2**32 - 1), b"")


def an_image_of_a_million_pixels(folder: Path) -> None:
    folder.mkdir()
    for part in ("train", "t10k"):
        idx(folder / f"{part}-images-idx3-ubyte", 8, (4, 1000, 1000), bytes(4_000_000))
        idx(folder / f"{part}-labels-idx1-ubyte", 8, (4,), bytes([0, 1, 0, 1]))


def sizes_differ(folder: Path) -> None:
    write_set(folder)
    idx(folder / "t10k-images-idx3-ubyte", 8, (40, 5, 5), bytes(1000))


TRAINS = {a_class_is_missing, an_image_of_a_million_pixels}
SETS = (
    *(no_images, one_image, one_class, a_class_is_missing, labels_out_of_range, more_labels_than_images, truncated),
    *(floats_with_nan, a_huge_header, an_image_of_a_million_pixels, sizes_differ),
)


@pytest.mark.parametrize("make", SETS, ids=[make.__name__ for make in SETS])
def test_bad_data(server: Server, tmp_path: Path, make) -> None:
    make(tmp_path / "set")
    data = ["data=idx", f"data.root={tmp_path}/set", "trainer.max_epochs=1", "model.widths=[3]", "wandb.mode=disabled"]
    command = server.start([*data, "save=none"], cwd=str(tmp_path))
    assert command.wait() is not None, "it hangs"
    said_clearly(command)
    if make in TRAINS:
        assert command.code == 0, command.err
    if command.code == 0:
        assert "test accuracy" in command.out
    else:
        assert any(word in command.errors[0] for word in ("/set", "data.", "data=idx")), command.err
        assert not list(tmp_path.rglob("result.json"))


VALUES = (
    *("relu", "0.1", "-1", "0", "1e400", "nan", "inf", "null", "true", "[]", "[1,2]", "{a: 1}", "{", "'", '"', "''"),
    *(
        "${oc.env:HOME}",
        "${nowhere}",
        "${",
        "1,2",
        "range(0,2)",
        "range(0,0)",
        "choice(a,b)",
        "interval(0,1)",
        "glob(*)",
    ),
    *(
        "a b",
        "ä",
        "𝛼",
        "../..",
        "/dev/null",
        "\\",
        "a=b",
        "%",
        "0/2",
        "x" * 5000,
        "-",
        "--",
        "\t",
        "1" * 40,
        "!!python/x",
    ),
    *("full", "test", "[100000000]", "os.system", "sort(1,2)", "tag(log,interval(1,2))", "cast(1)", "int(1.5)"),
)
PREFIXES = ("", "", "", "", "+", "++", "~", "hydra.", "hydra/", "-", "--", "@", "/")
KEYS = (
    *GROUPS, *(key for key, _ in described_settings()), "hydra/sweeper", "hydra/launcher", "hydra.sweep.dir", "sweeps",
    "experiment", "hydra.launcher.executor", "hydra.launcher.slurm.partition", "hydra.sweeper.n_trials", "_target_",
    "activation._target_", "hydra.launcher._target_", "seeed", "", "a.b.c", "hydra.verbose", "hydra.mode",
)  # fmt: skip


def bad_line(chance: random.Random) -> list[str]:
    """Some overrides, each with something wrong; they train little where they are right after all."""
    found = []
    for _ in range(chance.randint(1, 3)):
        text = f"{chance.choice(PREFIXES)}{chance.choice(KEYS)}"
        text += chance.choice(["=", "=", "=", "=", "", "==", "@x="]) + chance.choice(VALUES)
        if chance.random() < 0.2:
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice("=,()[]{}'\"~+@:$ \\") + text[place:]
        found.append(text[:4000])
    return found


@pytest.mark.repetitions(5, 1)
def test_a_bad_command_line(server: Server, tmp_path: Path, chance: random.Random) -> None:
    folder, many = tmp_path / "s", chance.random() < 0.5
    line = bad_line(chance)
    first = ["-m", f"sweep_dir={folder}"] if many else [f"hydra.run.dir={folder}"]
    command = server.start([*SMALL, "trainer.max_epochs=1", *first, *line], cwd=str(tmp_path))
    assert command.wait() is not None, f"it hangs: {line}"
    assert "Traceback" not in command.err, (line, command.err)
    assert command.code is not None
    assert command.code >= 0, line
    if command.code in (0, 2) or "usage:" in command.err:  # 2: what is no override at all, Hydra's own parser refuses
        return
    assert len(command.errors) == 1, (line, command.err)
    assert "HYDRA_FULL_ERROR=1 shows where" not in command.err, (line, command.err)
    if folder.exists():  # what it has left is in nobody's way
        again = server.sweep(folder, "seed=1,2")
        again.wait()
        if again.code == 0:
            assert len(results(folder)) >= 2
        else:
            assert "sweep_dir=" in again.err, (line, again.err)
