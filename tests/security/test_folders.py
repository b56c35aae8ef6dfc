"""A stranger's folder is data: links lead nothing out of it, pipes and bombs end nothing, and its texts stay texts."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from tests.faults.commands import Server, said_clearly
from tests.security.fuzz import KINDS, fuzz, fuzz_hydra, hydra_keys, make_base, write_images
from tests.sweep.sweeps import SMALL

pytestmark = pytest.mark.slow

GRID = (*SMALL, "activation=relu,tanh", "seed=0", "report=false")


@pytest.fixture(scope="module")
def swept(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs."""
    folder = tmp_path_factory.mktemp("swept") / "s"
    command = server.start(["-m", *GRID, f"sweep_dir={folder}"])
    assert command.wait() == 0, command.err
    return folder


@pytest.fixture
def sweep(swept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(swept, tmp_path / "s"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of the person's, with files that a sweep might take for its own."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in (".profile", ".x.tmp", "notes.json", "x.lock", "x.safetensors", "result.json"):
        (folder / name).write_text("mine")
    return folder


@pytest.mark.parametrize("part", [".sweep", ".sweep/locks", ".sweep/checkpoints", "RUN", "RUN/.hydra", "train.log"])
def test_nothing_goes_through_a_link_out_of_a_sweep(server: Server, sweep: Path, elsewhere: Path, part: str) -> None:
    run = next(sweep.glob("*/result.json")).parent
    (run / "result.json").unlink()  # this run is trained again
    place = sweep / part.replace("RUN", run.name)
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.symlink_to(elsewhere / ".profile" if part == "train.log" else elsewhere)
    command = server.start(["-m", *GRID, f"sweep_dir={sweep}"])
    assert command.wait(60) == 1, command.out
    said_clearly(command)
    assert "is a symbolic link" in command.errors[0]
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == dict.fromkeys(
        (".profile", ".x.tmp", "notes.json", "x.lock", "x.safetensors", "result.json"), "mine"
    )


@pytest.mark.parametrize("name", ["train.log", ".hydra", "figures", "curves.csv"])
def test_nothing_goes_through_a_link_out_of_a_run(server: Server, tmp_path: Path, elsewhere: Path, name: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(elsewhere / ".profile" if "." in name[1:] else elsewhere)
    command = server.start([*SMALL, f"hydra.run.dir={run}"])
    assert command.wait(60) == 1, command.out
    said_clearly(command)
    assert len(list(elsewhere.iterdir())) == 6
    assert (elsewhere / ".profile").read_text() == "mine"


def test_a_sweep_deletes_its_own_files_only(server: Server, sweep: Path) -> None:
    mine = [sweep / ".sweep" / name for name in (".hidden", "notes.json", ".x.result.json", "checkpoints.txt")]
    for path in mine:
        path.write_text("mine")
    assert server.start(["-m", *GRID, "seed=0,1", f"sweep_dir={sweep}"]).wait(60) == 0
    assert [path.read_text() for path in mine] == ["mine"] * 4


def test_a_report_writes_and_shows_nothing_from_elsewhere(server: Server, sweep: Path, elsewhere: Path) -> None:
    (sweep / "report").symlink_to(elsewhere)
    command = server.start([str(sweep)], module="report")
    assert command.wait(60) == 1
    assert "is a symbolic link" in command.errors[0]
    assert len(list(elsewhere.iterdir())) == 6


def test_cells_are_no_formulas(server: Server, sweep: Path) -> None:
    path = next(sweep.glob("*/result.json"))
    record = json.loads(path.read_text())
    texts = {"cause": "=HYPERLINK(1)", "device": "@x", "git_commit": "+1+1", "wandb_id": "-1+1", "=key": "\t=1"}
    path.write_text(json.dumps({**record, **texts}))
    for argv, module in ((["-m", *GRID, "seed=0,1", f"sweep_dir={sweep}"], "train"), ([str(sweep)], "report")):
        command = server.start(argv, module=module)
        assert command.wait(120) == 0, command.err
    for table in (sweep / "runs.csv", sweep / "report" / "runs.csv"):
        cells = [cell for line in csv.reader(io.StringIO(table.read_text())) for cell in line]
        assert "'=HYPERLINK(1)" in cells
        assert not [cell for cell in cells if cell.startswith(("=", "@", "+", "\t"))]


def images(folder: Path, content: bytes, packed: bool = False) -> None:
    write_images(folder)
    path = folder / f"train-images-idx3-ubyte{'.gz' * packed}"
    (folder / "train-images-idx3-ubyte").unlink()
    path.write_bytes(content)


HEAD = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**16, 2**16)
DATA = {
    "a header of terabytes": lambda folder: images(folder, HEAD + b"x" * 100),
    "many images without pixels": lambda folder: images(folder, struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 0, 0)),
    "a bomb": lambda folder: images(folder, gzip.compress(HEAD + bytes(2**28)), packed=True),
    "a bomb that is no image": lambda folder: images(folder, gzip.compress(bytes(2**28)), packed=True),
    "plain under a packed name": lambda folder: images(folder, struct.pack(">HBB3I", 0, 8, 3, 1, 1, 1) + b"x", True),
    "empty": lambda folder: images(folder, b""),
    "a pipe": lambda folder: (images(folder, b"x"), pipe(folder / "train-images-idx3-ubyte")),
}
SAYS = ("truncated", "0x0 pixels", "at most", "not an IDX file", "not compressed", "is empty", "no regular file")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(("make", "says"), list(zip(DATA, SAYS, strict=True)))
def test_a_data_file_is_refused_in_one_line(server: Server, tmp_path: Path, make: str, says: str) -> None:
    DATA[make](tmp_path / "d")
    limited = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))"
    command = server.start([*SMALL, "data=idx", f"data.root={tmp_path / 'd'}"], cwd=str(tmp_path), inject=limited)
    assert command.wait(60) == 1
    said_clearly(command)
    assert says in command.errors[0]
    assert str(tmp_path / "d") in command.errors[0]


def test_dotted_names_are_found(server: Server, tmp_path: Path) -> None:
    write_images(tmp_path / "d")
    for path in list((tmp_path / "d").iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    command = server.start(
        [*SMALL, "data=idx", "data.root=d", "data.limit=null", "hydra.job.chdir=true"], cwd=str(tmp_path)
    )
    assert command.wait(60) == 0, command.err


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutations_of_files_end_in_one_line(base: Path, tmp_path: Path, kind: str) -> None:
    """``scripts/fuzz.py`` tries a thousand."""
    tally = fuzz(base, tmp_path, kind, 50, seed=1)
    assert tally.faults == []


@pytest.mark.slow
def test_hydras_keys_run_no_code(tmp_path: Path) -> None:
    """``scripts/fuzz.py`` tries every key by every way."""
    keys = random.Random(0).sample(hydra_keys(), 10)
    assert fuzz_hydra(tmp_path, keys, ("yaml",)).faults == []
