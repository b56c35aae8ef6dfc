"""The page itself: one HTML file with its style, its script, the plotting library and its data inside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.reporting.answer import level
from mlp_study.reporting.comparing import differing, shared, sides
from mlp_study.reporting.factors import FAILED, LEARNT, MECHANISMS

if TYPE_CHECKING:
    from mlp_study.reporting.analysis import Analysis
    from mlp_study.reporting.pictures import Picture
    from mlp_study.reporting.search import SearchRecord

LISTED = 200  # damaged or unfinished folders that are named
SCRIPTS = ("page.keys.js", "page.search.js", "page.js")  # the last one uses the others and starts


def page_of(study: Analysis, data: Mapping[str, Any], pictures: Sequence[Picture], notices: Iterable[str]) -> str:
    """The whole document.

    Args:
        study: what is reported on.
        data: what the script draws from.
        pictures: static figures to embed.
        notices: sentences for the top, such as what is missing.
    """
    sections = list(_sections(study, data, pictures))
    links = "".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{escape(name)}</h2>{content}</section>'
        for key, name, content in sections
    )
    title = escape(study.study.title)
    told = "".join(f'<p class="notice" role="note">{escape(line)}</p>' for line in notices)
    filters = '<details id="filters"><summary>Filter</summary></details>' if len(study.rows) > 1 else ""
    scripts = [plotly_js(), *map(asset, SCRIPTS)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><style>{asset("page.css")}</style></head><body>'
        f'<header><h1>{title}</h1><p class="answer">{escape(study.answer)}</p>{told}</header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{filters}{body}</main>'
        '<p id="spoken" class="unseen" role="status"></p>'
        f'<script type="application/json" id="data">{embedded(data)}</script>'
        + "".join(f"<script>{script}</script>" for script in scripts)
        + "</body></html>\n"
    )


def embedded(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def policy(scripts: Iterable[str]) -> str:
    """Only these scripts run, and nothing is fetched from anywhere."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def asset(name: str) -> str:
    """A file that lies beside this module."""
    return (files("mlp_study.reporting") / name).read_text(encoding="utf-8")


def plotly_js() -> str:
    """The plotting library, as its Python package ships it; read without importing that package's Python code."""
    from importlib.metadata import distribution

    path = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def _sections(study: Analysis, data: Mapping[str, Any], pictures: Sequence[Picture]) -> Iterator[tuple[str, str, str]]:
    """Key, heading and content of each section that has something to show."""
    if study.study.kind == "comparison" and study.rows:
        yield "folders", "The folders", comparison_tables(study)
    if study.study.claims:
        yield "claims", "Claims of the sources", claims_table(study.study.claims["claims"])
    if study.study.search:
        yield from _of_search(study.study.search)
    units = {"dead", "saturated"} & set(data["curves"]["parts"])
    if len(study.rows) > 1:
        yield from _of_many(study, data)
    elif study.rows and data["curves"]["parts"]:
        yield "curves", "Learning curves", curves(study)
    if units:
        yield "units", "Dead and saturated units through training", section("units")
    if data.get("confusion"):
        counted = f"n = {sum(map(sum, data['confusion']['counts']))} test images"
        yield "confusion-matrix", "Confusion matrix", section("confusion-matrix").replace("COUNTS", counted)
    if data.get("histograms"):
        charts = "".join(f'<div id="histogram-{i}" class="chart"></div>' for i in range(len(data["histograms"])))
        yield "preactivations", "Pre-activations", _caption(HISTOGRAMS) + charts
    if pictures:
        yield "pictures", "Figures", "".join(map(picture, pictures))
    if len(study.rows) == 1:
        yield "result", "Result and diagnosis", diagnosis(study, data) + result_table(study.rows[0])
    if len(study.rows) > 1:
        yield "runs", "All runs", section("runs")
    yield "origin", "Where this comes from", origin(study)


def _of_search(found: SearchRecord) -> Iterator[tuple[str, str, str]]:
    states = Counter(trial.state for trial in found.trials)
    counts = f"n = {len(found.trials)} trials: " + ", ".join(f"{count} {state}" for state, count in states.items())
    yield "trials", "The search", section("search").replace("COUNTS", counts)
    if len(found.objectives) > 1:
        yield "pareto", "Pareto front", section("front").replace("COUNTS", counts)


def _of_many(study: Analysis, data: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if study.axes and data["metrics"]:
        yield "overview", "Overview", section("overview")
    if data["curves"]["parts"]:
        yield "curves", "Learning curves", section("ticks") + curves(study)
    if data["metrics"] and study.factors:
        yield "time", "Time to reach an accuracy", section("time")
        if "gap" in data["metrics"]:
            yield "generalisation", "Generalisation gap", section("generalisation")
    if len(data["continuous"]) >= 2:
        yield "phases", "Phase diagram", section("phases")
    if any(data["importance"].values()) and not study.study.search:  # which has importances of its own
        yield "factors", "Which factor matters", section("factors")


def section(name: str) -> str:
    """A section's fixed content, from ``page.sections.html``."""
    parts = asset("page.sections.html").split("<!-- ")
    found = next(part.partition(" -->")[2] for part in parts if part.startswith(f"{name} -->"))
    return found.strip().replace("FAILED", f"{FAILED:.0%}").replace("LEARNT", f"{LEARNT:.0%}")


def curves(study: Analysis) -> str:
    """The section of the learning curves, which says what they are means of."""
    kept = f" {study.kept[:1].upper()}{study.kept[1:]}." if study.kept else ""
    several = (
        f"Mean over n seeds; band: its 95 % interval (Student's t), left out where it covers most of the axis.{kept}"
    )
    one = "n = 1 run." if len(study.rows) == 1 else f"One run a curve.{kept}"
    repeated = any(len(members) > 1 for members in study.groups.values())
    return section("curves").replace("MEANS", several if repeated else one)


def _caption(text: str) -> str:
    return f'<p class="caption">{escape(text)}</p>'


HISTOGRAMS = "What each hidden layer's activation receives, on up to 1,000 test images, after training."


def claims_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """The claims of a reproduction, one line a case."""
    names = (
        "experiment",
        "text",
        "case",
        "published",
        "measured",
        "deviation",
        "n",
        "interval",
        "verdict",
        "mechanism",
    )

    def cell(claim: Mapping[str, Any], name: str) -> str:
        value = (
            f"{cellular(claim.get('interval_low'))} to {cellular(claim.get('interval_high'))}"
            if name == "interval"
            else cellular(claim.get(name))
        )
        return f"<td>{escape(value)}</td>"

    head = "".join(f'<th scope="col">{"95 % interval" if name == "interval" else name}</th>' for name in names)
    body = "".join("<tr>" + "".join(cell(claim, name) for name in names) + "</tr>" for claim in claims)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Claims">{table}</div>'


def comparison_tables(study: Analysis) -> str:
    """What each folder has, in which settings they differ, and combinations that several have."""
    told = sides(study)
    names = [side.name for side in told]
    own = [
        [
            side.name,
            str(side.runs),
            ", ".join(side.data),
            str(side.combinations),
            ", ".join(f"{why} in {count}" for why, count in side.why.most_common()) or "none",
            side.best or "–",
            level(side.values).removeprefix("accuracy "),
        ]
        for side in told
    ]
    heads = ["folder", "runs", "data", "combinations", "fail", "best combination", "its test accuracy"]
    whole = table(heads, own, "Folders")
    if settings := differing(study):
        lines = [[key, *(values[name] for name in names)] for key, values in settings.items()]
        whole += "<h3>Settings in which they differ</h3>" + table(["setting", *names], lines, "Settings")
    if same := shared(study):
        lines = [
            [words, *(level(values[n]).removeprefix("accuracy ") if n in values else "–" for n in names)]
            for words, values in same
        ]
        note = f" (the first {LISTED} of {len(lines)})" if len(lines) > LISTED else ""
        text = f"Test accuracy of combinations that several have, the largest difference first{note}"
        whole += f"<h3>The same combinations</h3>{_caption(text)}"
        whole += table(["combination", *names], lines[:LISTED], "The same combinations")
    return whole


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """Cells of text; the first of each row is its heading."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return _scrolling(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", label)


def cellular(value: Any) -> str:
    """A value for a cell: four digits."""
    if value is None or value in ("", "NaN"):
        return "–"
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e9
    return str(int(value)) if whole else f"{value:.4g}" if isinstance(value, float) else str(value)


def diagnosis(study: Analysis, data: Mapping[str, Any]) -> str:
    """What happened to a single run, in sentences."""
    why = study.mechanisms[0]
    lines = [f"Why it fails: {why}: {MECHANISMS[why][1]}"] if why else []
    lines += [str(line) for line in data.get("sentences", [])]
    items = "".join(f"<li>{escape(line[:1].upper() + line[1:])}.</li>" for line in lines)
    return f"<h3>Diagnosis</h3><ul>{items}</ul>" if lines else ""


def result_table(row: Mapping[str, Any]) -> str:
    """Everything that the run's record says, diagnostics before and after side by side."""
    names = [key.partition("/")[2] for key in row if key.startswith(("initial/", "final/"))]
    pairs = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{escape(cellular(row.get(f"initial/{name}")))}</td>'
        f'<td class="number">{escape(cellular(row.get(f"final/{name}")))}</td></tr>'
        for name in dict.fromkeys(names)
    )
    plain = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(cellular(value))}</td></tr>'
        for key, value in row.items()
        if not key.startswith(("initial/", "final/"))
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("diagnostic", "before training", "after"))
    found = f"<h3>Diagnostics</h3>{_scrolling(f'<thead><tr>{heads}</tr></thead><tbody>{pairs}</tbody>', 'Diagnostics')}"
    result = f"<h3>Result and settings</h3>{_scrolling(f'<tbody>{plain}</tbody>', 'Result and settings')}"
    return (found if pairs else "") + result


def _scrolling(rows: str, label: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>{rows}</table></div>'


def picture(shown: Picture) -> str:
    """A static figure, inside the page."""
    source = f"data:image/png;base64,{base64.b64encode(shown.png).decode()}"
    text = escape(shown.text)
    caption = f'<figcaption class="caption">{text}</figcaption>'
    heading = escape(shown.heading)
    image = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{heading}"><img src="{source}" alt="{text}"></div>'
    )
    return f"<figure><h3>{heading}</h3>{image}{caption}</figure>"


def origin(study: Analysis) -> str:
    """Commands, versions, commits; what is damaged or not finished."""
    own = study.study
    commands = "".join(f"<pre>{escape(command)}</pre>" for command in own.commands) or _caption(
        "No record of the command was found."
    )
    counted = [("Commit", own.commits), ("Versions", own.versions), ("Device", own.devices)]
    lists = "".join(
        f"<h3>{name}</h3><ul>"
        + "".join(
            f"<li><code>{escape(key)}</code> ({count} run{'s' * (count != 1)})</li>"
            for key, count in found.most_common(LISTED)
        )
        + "</ul>"
        for name, found in counted
        if found
    )
    for name, lines in (("Records that could not be read", own.damaged), ("Runs without a result", own.unfinished)):
        if lines:
            more = f"<li>and {len(lines) - LISTED} more</li>" if len(lines) > LISTED else ""
            lists += (
                f"<h3>{name}</h3><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines[:LISTED]) + more + "</ul>"
            )
    return f"<h3>Command</h3>{commands}{lists}"
