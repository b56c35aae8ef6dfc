"""What the README and the docs tell a reader to type is typed, and prints what they say; what they link is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
README = DOCUMENTS[ROOT / "README.md"]


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, its text, and what it must print: the ``text`` block that follows it."""

    info: str
    text: str
    expected: str = ""


def blocks(markdown: str) -> list[Block]:
    fences = re.findall(r"^```(\S[^\n]*)\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)
    follow = [*fences[1:], ("", "")][: len(fences)]
    return [
        Block(info.strip(), text, next_text if next_info.strip() in ("text", "text excerpt") else "")
        for (info, text), (next_info, next_text) in zip(fences, follow, strict=True)
    ]


def commands() -> list[tuple[str, str]]:
    """(command, expected output) of each ``python -m mlp_study...`` in a block that is not marked ``no-test``, once."""
    found: dict[str, str] = {}
    for block in (block for text in DOCUMENTS.values() for block in blocks(text) if block.info == "bash"):
        lines = [
            line.split("  #")[0]
            for line in block.text.replace("\\\n", " ").splitlines()
            if line.startswith("python -m mlp_study")
        ]
        for line in lines:
            found[line] = found.get(line) or (block.expected if line == lines[-1] else "")
    return list(found.items())


def test_the_first_screen_has_a_command_and_its_output() -> None:
    assert commands(), "the README shows a command"
    command, expected = commands()[0]
    assert README.index(command) < README.index("## ")
    assert "test accuracy" in expected


@pytest.mark.slow
@pytest.mark.parametrize(("command", "expected"), commands(), ids=[command for command, _ in commands()])
def test_a_command_of_the_documents_works_and_prints_what_they_say(command: str, expected: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("MLP_STUDY_DATA", "HYDRA_FULL_ERROR")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200", "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for line in expected.splitlines():
        assert_printed(line, done.stdout)


def assert_printed(line: str, output: str) -> None:
    """The output has this line; numbers may differ by a tenth, or a little near zero: machines round differently."""
    words, numbers = parted(line)
    alike = [found for text in output.splitlines() if (found := parted(text))[0] == words]
    assert alike, f"{line!r} is not in the output:\n{output}"
    assert any(numbers == pytest.approx(found, abs=0.03, rel=0.1) for _, found in alike), (line, alike)


def parted(line: str) -> tuple[list[str], list[float]]:
    number = r"-?\d+(?:\.\d+)?"
    line = line.strip("│ ")  # of the panel around it
    return re.sub(number, "#", line).split(), [float(text) for text in re.findall(number, line)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_every_file_that_a_document_links_is_there(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", DOCUMENTS[path])
    assert not [link for link in links if not (path.parent / link).exists()]


def python_blocks() -> list[tuple[str, str]]:
    return [
        (path.name, b.text) for path, text in DOCUMENTS.items() for b in blocks(text) if b.info.startswith("python")
    ]


@pytest.mark.parametrize(("name", "text"), python_blocks())
def test_the_python_in_a_document_is_python(name: str, text: str) -> None:
    compile(text, name, "exec")


def test_the_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.slow
def test_the_examples_of_own_networks_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/diagnose.md's Python, from its first block to its last, with the assertions that a reader sees."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks(DOCUMENTS[ROOT / "docs" / "diagnose.md"]):
        if block.info == "python":
            exec(compile(block.text, "docs/diagnose.md", "exec"), names)
