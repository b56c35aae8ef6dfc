"""A file is written whole or stays as it was, whatever happens."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlp_study.errors import StudyError
from mlp_study.runtime.files import WriteError, write_file


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_content_arrives_in_a_new_folder_with_the_permissions_of_the_umask(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    before = os.umask(0o027)
    try:
        write_file(path, "grün\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == "grün\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert names_in(path.parent) == ["file.json"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only"), (errno.EACCES, "no permission")],
)
def test_a_refused_write_leaves_the_old_file_and_says_why_in_one_line(tmp_path, monkeypatch, number, words):
    path = tmp_path / "result.json"
    write_file(path, "old")

    def refuse(path: Path, data: bytes) -> None:
        path.write_bytes(data[:2])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("mlp_study.runtime.files._write_new", refuse)
    with pytest.raises(StudyError, match=words) as caught:
        write_file(path, "new content")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["result.json"]


def test_a_disk_that_is_really_full(small_disk):
    path = small_disk / "curves.csv"
    write_file(path, b"a" * 600_000)
    with pytest.raises(WriteError, match="the disk is full"):
        write_file(path, b"b" * 600_000)
    assert path.read_bytes() == b"a" * 600_000
    assert names_in(small_disk) == ["curves.csv"]


def test_a_disk_that_is_really_read_only(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(WriteError, match="the disk is read-only"):
        write_file(small_disk / "new" / "result.json", "x")


def test_threads_that_write_one_file_leave_one_of_their_contents(tmp_path):
    path, contents = tmp_path / "file", [bytes([65 + i]) * 100_000 for i in range(4)]

    def write_often(content: bytes) -> None:
        for _ in range(25):
            write_file(path, content)

    threads = [threading.Thread(target=write_often, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names_in(tmp_path) == ["file"]


WRITER = """
import itertools, sys
from pathlib import Path
from mlp_study.runtime.files import write_file
for letter in itertools.cycle([b"a", b"b"]):
    write_file(Path(sys.argv[1]), letter * 3_000_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file"
    for delay in (0.003, 0.011, 0.017):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as process:
            while not path.exists():
                time.sleep(0.001)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 3_000_000
        assert len(set(content)) == 1
        path.unlink()
