"""Write the generated parts of README.md, docs/speed.md and docs/study.md, and the figure of the bench.

Usage: python scripts/readme_tables.py [--check | FOLDER ...]

--check only says whether all that is up to date. A FOLDER that `python -m mlp_study.reproduce` has written first
replaces its sources' claims in docs/reproduction.md.
"""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench import markdown
from bench_figure import digest, draw, drawn_from
from mlp_study.config.schema import GROUPS
from mlp_study.factors.normalizers import NORMALIZERS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "speed.md", ROOT / "docs" / "study.md")
TITLES = {
    "activation": "hidden activation",
    "init": "initial weights",
    "loss": "loss",
    "optimizer": "optimizer",
    "schedule": "learning rate schedule",
    "data": "data set",
}


def factors() -> str:
    """One line a factor: what it is, its key, its choices."""
    rows = [(TITLES[kind], kind, list(table)) for kind, table in GROUPS.items()]
    rows.append(("input scaling", "data.scale", list(NORMALIZERS)))
    lines = ["| factor | key | choices |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {title} | `{key}` | {', '.join(choices)} |" for title, key, choices in rows)])


def sections(text: str, heading: str) -> dict[str, str]:
    """The text's parts by source, each without its heading: ``heading`` has one group for the source's name."""
    parts = re.split(heading, text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def take_claims(folder: Path) -> None:
    """Put the claims of a reproduction's sources into docs/reproduction.md: title, question and table of each."""
    path = ROOT / "docs" / "reproduction.md"
    kept = path.read_text(encoding="utf-8")
    own = sections(kept, SOURCE)
    for name, text in sections((folder / "reproduction.md").read_text(encoding="utf-8"), r"^## (\w+)(?=: )").items():
        title, question, *rest = text.partition("Means over the seeds")[0].strip().split("\n\n")
        table = next(part for part in rest if part.startswith("|"))
        own[name] = f"{title}**\n\n{question}\n\n{table}\n\n"
    intro = kept.partition("**")[0]
    path.write_text(intro + "".join(f"**{name}{text}" for name, text in own.items()).rstrip() + "\n", encoding="utf-8")


def left_by(name: str) -> str:
    """What a command has left in ``docs/NAME``."""
    path = ROOT / "docs" / name
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


SOURCE = r"^\*\*(\w+)(?=: )"  # of docs/reproduction.md


def claims() -> str:
    """The claims of docs/reproduction.md, one line each: what was published, what was measured, the verdict."""
    text = left_by("reproduction.md")
    lines = ["| source | claim | published | measured: mean ± deviation | verdict |", "|---|---|---|---|---|"]
    for name, section in sections(text, SOURCE).items():
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in section.splitlines() if row.startswith("|")]
        found: list[tuple[list[str], list[str]]] = []
        for row in rows[2:]:
            if row[0]:
                found.append((row, []))
            found[-1][1].append(f"{row[2]}: {row[3]} ± {row[4]}")
        for place, (first, cases) in enumerate(found):
            shown = f"`{name}`" if place == 0 else ""
            lines.append(f"| {shown} | {first[0]} | {first[1]} | {'; '.join(cases)} | {first[7]} |")
    return "\n".join([text.partition("**")[0].strip(), "", *lines])


def measured(name: str = "bench.json") -> dict[str, Any]:
    """What ``scripts/bench.py --json docs/NAME`` measured, by row."""
    found: dict[str, Any] = json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))
    return found


def has_goal(row: dict[str, Any]) -> bool:
    """Whether the project claims something about it; the other rows only explain."""
    return any(
        contender.get(claim) for contender in row["contenders"] for claim in ("goal", "within", "limit", "apart")
    )


def parts() -> dict[str, str]:
    """Each generated part by the name in its markers."""
    bench = measured()
    return {
        "factors": factors(),
        "reproduction": claims(),
        "bench": "\n".join(markdown({name: row for name, row in bench.items() if has_goal(row)})),
        "bench_more": "\n".join(markdown({name: row for name, row in bench.items() if not has_goal(row)})),
        "bench_xeon": "\n".join(markdown(measured("bench_xeon.json"))),
    }


def _filled(text: str, part: re.Match[str]) -> str:
    return f"{part[1]}{text}\n{part[2]}" if text else f"{part[1]}{part[2]}"


def written(document: str) -> str:
    """The document with every generated part up to date."""
    for name, text in parts().items():
        marked = re.compile(rf"(<!-- {name}:begin[^>]*-->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        document = marked.sub(partial(_filled, text), document)
    return document


def main() -> int:
    """Write the documents and the figure, or with --check say whether they are up to date (exit code 1 if not)."""
    for folder in sys.argv[1:]:
        if folder != "--check":
            take_claims(Path(folder))
    before = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
    after = {path: written(text) for path, text in before.items()}
    figure = ROOT / "docs" / "figures" / "bench.png"
    redraw = drawn_from(figure) != digest(measured())
    if "--check" in sys.argv[1:]:
        return int(before != after or redraw)
    for path, text in after.items():
        path.write_text(text, encoding="utf-8")
    if redraw:
        draw(measured(), figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
