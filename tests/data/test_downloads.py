"""Downloads, against a server on loopback: whole files or none, one clear line for each fault, never a hang."""

from __future__ import annotations

import gzip
import hashlib
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from mlp_study.data import downloads
from mlp_study.data.images import load
from mlp_study.errors import DataError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Serve a folder as MNIST's mirror; returns its address."""
    servers = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(MNIST, "mirrors", [address])
        return address

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def small(tmp_path, write_set, monkeypatch) -> Path:
    """A folder of four small archives, with their checksums in torchvision's table."""
    folder = tmp_path / "mirror"
    write_set(folder, ending=".gz")
    sums = [(p.name, hashlib.md5(p.read_bytes()).hexdigest()) for p in sorted(folder.iterdir())]
    monkeypatch.setattr(MNIST, "resources", sums)
    return folder


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", 2.0)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def refused(root: Path) -> str:
    """The one line that loading MNIST from ``root`` ends with."""
    with pytest.raises(DataError) as caught:
        load("mnist", root)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"data=mnist: in {root}/MNIST/raw, ")
    assert message.endswith("or run data=digits, which needs none")
    return message


def test_real_mnist_downloads_from_its_mirror(mnist_root, tmp_path, serve, monkeypatch, capfd):
    monkeypatch.setattr(downloads, "PATIENCE", 8.0)
    serve(mnist_root / "MNIST" / "raw")
    images = load("mnist", tmp_path)
    assert torch.equal(images.train_images_NI, load("mnist", mnist_root).train_images_NI)
    names = sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir())
    assert names == sorted(name for name, _ in MNIST.resources)
    assert capfd.readouterr() == ("", "")


def test_downloaded_once_then_read_without_network(small, tmp_path, serve, monkeypatch):
    serve(small)
    assert load("mnist", tmp_path / "data").train_images_NI.shape == (20, 15)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    (tmp_path / "data" / "MNIST" / "raw" / "note.txt").touch()  # a changed folder is read again
    assert load("mnist", tmp_path / "data").train_images_NI.shape == (20, 15)


def test_without_network_and_files_the_folder_stays_away(small, tmp_path):
    message = refused(tmp_path / "data")
    assert "missing: t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, train-images" in message
    assert "no download (no answer from 127.0.0.1:9)" in message
    assert "data.root=FOLDER or MLP_STUDY_DATA" in message
    assert not (tmp_path / "data").exists()


def test_only_the_damaged_file_is_fetched_again(small, tmp_path, serve):
    raw = tmp_path / "data" / "MNIST" / "raw"
    serve(small)
    load("mnist", tmp_path / "data")
    kept = (raw / "train-labels-idx1-ubyte.gz").stat().st_ino
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"half a downl")
    assert load("mnist", tmp_path / "data").train_images_NI.shape == (20, 15)
    assert (raw / "train-labels-idx1-ubyte.gz").stat().st_ino == kept


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:30] + bytes([b[30] ^ 1]) + b[31:], lambda b: b""])
def test_a_damaged_file_without_network_is_named_and_the_next_good_attempt_works(small, tmp_path, serve, damage):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in small.iterdir():
        (raw / path.name).write_bytes(path.read_bytes())
    name = "t10k-images-idx3-ubyte.gz"
    (raw / name).write_bytes(damage((small / name).read_bytes()))
    assert "damaged (its MD5 sum is " in (message := refused(tmp_path / "data"))
    assert f"): {name};" in message
    (raw / name).write_bytes((small / name).read_bytes())
    assert load("mnist", tmp_path / "data").test_images_NI.shape == (8, 15)


def test_a_mirror_that_sends_damaged_files_leaves_nothing_and_the_next_good_attempt_works(small, tmp_path, serve):
    address = serve(small)
    name = MNIST.resources[0][0]
    good = (small / name).read_bytes()
    (small / name).write_bytes(gzip.compress(b"something else"))
    assert f"no download ({address}{name}: File not found or corrupted.)" in refused(tmp_path / "data")
    assert list((tmp_path / "data" / "MNIST" / "raw").iterdir()) == []
    (small / name).write_bytes(good)
    assert load("mnist", tmp_path / "data").train_images_NI.shape == (20, 15)


def test_a_mirror_without_a_file_is_named(small, tmp_path, serve):
    serve(small)
    (small / MNIST.resources[3][0]).unlink()
    assert "404" in refused(tmp_path / "data") or "no answer" in refused(tmp_path / "data")


def test_a_second_mirror_stands_in(small, tmp_path, serve, monkeypatch):
    address = serve(small)
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", address + "nowhere/", address])
    assert load("mnist", tmp_path / "data").train_images_NI.shape == (20, 15)


@pytest.fixture
def silent_server():
    """A server that accepts connections and answers with what it is given, then keeps silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections, stop = [], threading.Event()
    says = [b""]

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            if says[0]:
                connection.recv(1000)
                connection.sendall(says[0])

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1], says
    stop.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"])
def test_a_silent_mirror_never_hangs(small, tmp_path, monkeypatch, silent_server, says):
    port, words = silent_server
    words[0] = says
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    assert ("timed out" if says else "no answer") in refused(tmp_path / "data")
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_read_only_folder_is_left_alone(small, tmp_path, serve, depth):
    address = serve(small)
    root = tmp_path / "data"
    folder = [root, root / "MNIST", root / "MNIST" / "raw"][depth]
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    try:
        assert f"no download (the folder {folder} is read-only)" in refused(root)
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o755)
    assert address
    assert load("mnist", root).train_images_NI.shape == (20, 15)


def test_a_file_where_the_folder_should_be_is_named(small, tmp_path, serve):
    serve(small)
    (tmp_path / "data").write_text("not a folder")
    assert "no download (Not a directory)" in refused(tmp_path / "data")


@pytest.mark.slow
def test_processes_that_download_at_once_do_not_disturb_each_other(small, tmp_path, serve):
    address = serve(small)
    code = f"""
from torchvision.datasets import MNIST
from mlp_study.data.images import load
MNIST.mirrors, MNIST.resources = [{address!r}], {MNIST.resources!r}
print(len(load("mnist", {str(tmp_path / "data")!r}).train_labels_N))
"""
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate() for process in running] == [("20\n", "")] * 2
    assert len(list((tmp_path / "data" / "MNIST" / "raw").iterdir())) == 4
