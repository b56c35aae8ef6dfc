"""What the README tells a reader to type is typed, and prints what the README says; what it links is there."""

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
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, its text, and what it must print: the ``text`` block that follows it."""

    info: str
    text: str
    expected: str = ""


def blocks(markdown: str) -> list[Block]:
    fences = re.findall(r"^```(\S[^\n]*)\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)
    follow = [*fences[1:], ("", "")]
    return [
        Block(info.strip(), text, next_text if next_info.strip() in ("text", "text excerpt") else "")
        for (info, text), (next_info, next_text) in zip(fences, follow, strict=True)
    ]


def commands() -> list[tuple[str, str]]:
    """(command, expected output) of each ``python -m mlp_study...`` in a block that is not marked ``no-test``."""
    found = []
    for block in blocks(README):
        if block.info != "bash":
            continue
        lines = [
            line for line in block.text.replace("\\\n", " ").splitlines() if line.startswith("python -m mlp_study")
        ]
        found += [(line.split("  #")[0], block.expected if line == lines[-1] else "") for line in lines]
    return found


def test_the_first_screen_has_a_command_and_its_output() -> None:
    assert commands(), "the README shows a command"
    command, expected = commands()[0]
    assert README.index(command) < README.index("## ")
    assert "test accuracy" in expected


@pytest.mark.slow
@pytest.mark.parametrize(("command", "expected"), commands(), ids=[command for command, _ in commands()])
def test_a_command_of_the_readme_works_and_prints_what_it_says(command: str, expected: str, tmp_path: Path) -> None:
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


def test_every_file_that_the_readme_links_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_python_in_the_readme_is_python() -> None:
    for block in blocks(README):
        if block.info == "python":
            compile(block.text, "README.md", "exec")
