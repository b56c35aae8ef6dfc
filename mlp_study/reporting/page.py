"""The page itself: one HTML file with its style, its scripts, the plotting library (compressed) and its data inside."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.reporting.analysis import in_words
from mlp_study.reporting.answer import Answer, level, shown
from mlp_study.reporting.axes import label
from mlp_study.reporting.comparison import differing, folders_of, shared
from mlp_study.reporting.failures import FAILED, LEARNT, MECHANISMS
from mlp_study.reporting.static_figures import kept
from mlp_study.reporting.study import command

if TYPE_CHECKING:
    from mlp_study.records.trials import SearchRecord
    from mlp_study.reporting.analysis import Analysis
    from mlp_study.reporting.axes import Combination
    from mlp_study.reporting.static_figures import Picture

CARDS = 6  # of combinations that fail
LISTED = 200  # damaged or unfinished folders that are named
SCRIPTS = ("page.keys.js", "page.charts.js", "page.map.js", "page.runs.js", "page.search.js", "page.js")
FOLDED = ("units", "time", "generalisation", "phases", "factors", "runs", "result", "origin")  # sections at first

Section = tuple[str, str, str]  # its key, its heading, its content


def page_of(
    study: Analysis, told: Answer, data: Mapping[str, Any], pictures: Sequence[Picture], notices: Iterable[str]
) -> str:
    """The whole document.

    Args:
        study: what is reported on.
        told: its answer.
        data: what the scripts draw from.
        pictures: static figures to embed.
        notices: sentences for the top, such as what is missing.
    """
    title = escape(study.study.title)
    notes = "".join(f'<p class="notice" role="note">{escape(line)}</p>' for line in notices)
    filters = '<details id="filters"><summary>Filter</summary></details>' if len(study.runs) > 1 else ""
    plotly = plotly_js()
    scripts = [asset(name) for name in SCRIPTS]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy([plotly, *scripts])}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><style>{asset("page.css")}</style></head><body>'
        f'<header><h1>{title}</h1><p class="headline">{escape(told.headline)}</p>{notes}</header>'
        f"<main>{filters}{''.join(_section(study, *one) for one in _sections(study, told, data, pictures))}</main>"
        '<p id="spoken" class="unseen" role="status"></p>'
        f'<script type="application/json" id="data">{embedded(data)}</script>'
        f'<script type="text/plain" id="plotly">{compressed(plotly)}</script>'
        + "".join(f"<script>{script}</script>" for script in scripts)
        + "</body></html>\n"
    )


def _section(study: Analysis, key: str, heading: str, content: str) -> str:
    folded = key in FOLDED or (key == "curves" and len(study.runs) > 1)
    title = f'<summary><h2 id="{key}-h">{escape(heading)}</h2></summary>'
    return f'<details class="section" id="{key}"{"" if folded else " open"}>{title}<div>{content}</div></details>'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def embedded(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def compressed(text: str) -> str:
    """Gzip in base64, the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


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
    return path.read_text(encoding="utf-8")


def _sections(study: Analysis, told: Answer, data: Mapping[str, Any], pictures: Sequence[Picture]) -> Iterator[Section]:
    """Each section that has something to show."""
    if study.study.kind == "comparison" and study.runs:
        yield "folders", "The folders", comparison_tables(study)
    if study.study.claims:
        yield "claims", "Claims of the sources", claims_table(study.study.claims["claims"])
    if study.study.search:
        yield from _of_search(study.study.search)
    if len(study.runs) == 1:
        yield "diagnosis", "Diagnosis", diagnosis(study, told, data)
    if len(study.runs) > 1:
        yield from _of_many(study, told, data)
    elif study.runs and data["curves"]["parts"]:
        yield "curves", "Learning curves", curves(study)
    if {"dead", "saturated"} & set(data["curves"]["parts"]):
        yield "units", "Dead and saturated units through training", section("units")
    if data.get("confusion"):
        counted = f"n = {sum(map(sum, data['confusion']['counts']))} test images"
        yield "confusion-matrix", "Confusion matrix", section("confusion-matrix").replace("COUNTS", counted)
    if data.get("histograms"):
        charts = "".join(f'<div id="histogram-{i}" class="chart"></div>' for i in range(len(data["histograms"])))
        text = "What each hidden layer's activation receives, on up to 1,000 test images, after training."
        yield "preactivations", "Pre-activations", _caption(text) + charts
    if pictures:
        yield "pictures", "Figures", "".join(map(picture, pictures))
    if len(study.runs) == 1:
        yield "result", "Result", result_table(study.runs[0])
    if len(study.runs) > 1:
        yield "runs", "All runs", section("runs")
    yield "origin", "Where this comes from", origin(study)


def _of_search(found: SearchRecord) -> Iterator[Section]:
    states = Counter(trial.state for trial in found.trials)
    counts = f"n = {len(found.trials)} trials: " + ", ".join(f"{count} {state}" for state, count in states.items())
    yield "trials", "The search", section("search").replace("COUNTS", counts)
    if len(found.objectives) > 1:
        yield "pareto", "Pareto front", section("front").replace("COUNTS", counts)


def _of_many(study: Analysis, told: Answer, data: Mapping[str, Any]) -> Iterator[Section]:
    if study.axes and data["metrics"]:
        yield "overview", "Overview", section("overview")
    if study.failing() and not study.study.search:
        yield "fixes", "Fix it", fixes(study)
    sentences = "".join(f'<p class="answer">{escape(sentence)}</p>' for sentence in told.sentences)
    yield "answer", "The answer in full", sentences
    if data["curves"]["parts"]:
        yield "curves", "Learning curves", section("ticks") + curves(study)
    if data["times"] and study.factors:
        yield "time", "Time to reach an accuracy", section("time")
    if "gap" in data["metrics"] and study.factors:
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
    several = any(len(members) > 1 for members in study.groups.values())
    told = "Mean over n seeds; band: its 95 % interval (Student's t), left out where it covers most of the axis."
    if not several:
        told = "n = 1 run." if len(study.runs) == 1 else "One run a curve."
    more = f" {_capital(kept(study))}." if kept(study) else ""
    return section("curves").replace("MEANS", told + more)


def _caption(text: str) -> str:
    return f'<p class="caption">{escape(text)}</p>'


def claims_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """The claims of a reproduction, one line a case."""
    before = ("experiment", "text", "case", "published", "measured", "deviation", "n")
    after = ("verdict", "mechanism")
    lines = [
        [
            *(shown(claim.get(name)) for name in before),
            f"{shown(claim.get('interval_low'))} to {shown(claim.get('interval_high'))}",
            *(shown(claim.get(name)) for name in after),
        ]
        for claim in claims
    ]
    return table([*before, "95 % interval", *after], lines, "Claims")


def comparison_tables(study: Analysis) -> str:
    """What each folder has, in which settings they differ, and combinations that several have."""
    found = folders_of(study)
    names = [folder.name for folder in found]
    own = [
        [
            folder.name,
            str(folder.runs),
            ", ".join(folder.data),
            str(folder.combinations),
            ", ".join(f"{why} in {count}" for why, count in folder.why.most_common()) or "none",
            folder.best or "–",
            in_words(folder.values).removeprefix("accuracy "),
        ]
        for folder in found
    ]
    heads = ["folder", "runs", "data", "combinations", "fail", "best combination", "its test accuracy"]
    whole = table(heads, own, "Folders")
    if settings := differing(study):
        lines = [[key, *(values[name] for name in names)] for key, values in settings.items()]
        whole += "<h3>Settings in which they differ</h3>" + table(["setting", *names], lines, "Settings")
    if same := shared(study):
        lines = [
            [words, *(in_words(values[n]).removeprefix("accuracy ") if n in values else "–" for n in names)]
            for words, values in same
        ]
        note = f" (the first {LISTED} of {len(lines)})" if len(lines) > LISTED else ""
        text = f"Test accuracy of combinations that several have, the largest difference first{note}"
        whole += f"<h3>The same combinations</h3>{_caption(text)}"
        whole += table(["combination", *names], lines[:LISTED], "The same combinations")
    return whole


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """Texts in a table; the first of each row is its heading."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(value)}</td>" for value in rest) + "</tr>"
        for first, *rest in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if heads else ""
    about = f'class="scroll" tabindex="0" role="region" aria-label="{label}"'
    return f"<div {about}><table>{top}<tbody>{body}</tbody></table></div>"


def fixes(study: Analysis) -> str:
    """A card for each combination that fails: why, what was changed where it learns, and what that reached."""
    found = study.failing()
    more = f"{len(found) - CARDS} more combinations fail; the map and the table below have all."
    cards = "".join(_card(study, group) for group in found[:CARDS])
    return f'<div class="cards">{cards}</div>' + (_caption(more) if len(found) > CARDS else "")


def _card(study: Analysis, group: Combination) -> str:
    mechanism, count = study.mechanism_of(group)
    mark, meaning = MECHANISMS[mechanism]
    of = len(study.groups[group])
    why = f"{_capital(mechanism)} in {count} of {of} run{'s' * (of != 1)}: {meaning}. {_capital(level(study, group))}."
    changes = [
        f"<code>{escape(f'{key}={other[study.factors.index(key)]}')}</code> reaches {study.accuracy[other]:.3f} here"
        for key, other in list(study.cures(group).items())[:2]
    ]
    if changes:
        told = f"Fix: {', or '.join(changes)}."
    else:
        ask = escape(_ask(study, study.groups[group][0]))
        told = f"No single change of it was run that learns. This tries what would: <code>{ask}</code>"
    heading = escape(f"{mark} {label(study.factors, group)}")
    return f'<div class="card"><h3>{heading}</h3><p>{escape(why)}</p><p>{told}</p></div>'


def _ask(study: Analysis, run: int) -> str:
    """The command that tries what would make a run learn."""
    own = study.study.overrides[run]
    return command("diagnose", [override for override in own if not override.startswith(("sweep_dir=", "wandb."))])


def diagnosis(study: Analysis, told: Answer, data: Mapping[str, Any]) -> str:
    """What happened to a single run, in sentences."""
    why = study.mechanisms[0]
    lines = [f"Why it fails: {why}: {MECHANISMS[why][1]}."] if why else []
    lines += [f"{_capital(str(line))}." for line in data.get("sentences", [])]
    lines += [f"This tries what would make it learn: {_ask(study, 0)}"] if why else []
    return _list([*lines, *told.sentences])


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def result_table(run: Mapping[str, Any]) -> str:
    """Everything that the run's record says, diagnostics before and after side by side."""
    names = dict.fromkeys(key.partition("/")[2] for key in run if key.startswith(("initial/", "final/")))
    pairs = [[name, shown(run.get(f"initial/{name}")), shown(run.get(f"final/{name}"))] for name in names]
    plain = [[key, shown(value)] for key, value in run.items() if not key.startswith(("initial/", "final/"))]
    heads = ("diagnostic", "before training", "after")
    found = f"<h3>Diagnostics</h3>{table(heads, pairs, 'Diagnostics')}" if pairs else ""
    return f"{found}<h3>Result and settings</h3>{table((), plain, 'Result and settings')}"


def picture(drawn: Picture) -> str:
    """A static figure, inside the page."""
    source = f"data:image/png;base64,{base64.b64encode(drawn.png).decode()}"
    text, heading = escape(drawn.text), escape(drawn.heading)
    about = f'class="scroll" tabindex="0" role="region" aria-label="{heading}"'
    image = f'<div {about}><img src="{source}" alt="{text}"></div>'
    return f'<figure><h3>{heading}</h3>{image}<figcaption class="caption">{text}</figcaption></figure>'


def origin(study: Analysis) -> str:
    """Commands, versions, commits; what is damaged or not finished."""
    own = study.study
    commands = "".join(f"<pre>{escape(command)}</pre>" for command in own.commands)
    whole = f"<h3>Command</h3>{commands or _caption('No record of the command was found.')}"
    for name, counts in (("Commit", own.commits), ("Versions", own.versions), ("Device", own.devices)):
        if counts:
            lines = (f"{key} ({count} run{'s' * (count != 1)})" for key, count in counts.most_common(LISTED))
            whole += f"<h3>{name}</h3>{_list(lines)}"
    for name, records in (("Records that could not be read", own.damaged), ("Runs without a result", own.unfinished)):
        if records:
            more = [f"and {len(records) - LISTED} more"] if len(records) > LISTED else []
            whole += f"<h3>{name}</h3>{_list([*records[:LISTED], *more])}"
    return whole
