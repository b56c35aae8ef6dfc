"""A diagnosis as a notebook shows it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mlp_study.doctor.text import SHOWN, course_words, fix_words, headline, keys_of, sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlp_study.doctor.diagnosis import Diagnosis
    from mlp_study.doctor.watch import Health

COLOURS = {"will train": "#1a7f37", "will train slowly": "#9a6700", "will not train": "#cf222e"}


def html_of(d: Diagnosis) -> str:
    """Verdict, reason, fixes with their code, the figure, causes and details; all words escaped."""
    parts = [
        f'<p style="font-weight:bold;color:{COLOURS[d.verdict]}">{escape(headline(d))}</p>',
        f"<p>{escape(sentence(d.why))}</p>",
    ]
    fixes = [f"<li>{escape(fix_words(f))}<pre><code>{escape(f.code)}</code></pre></li>" for f in d.fixes[:SHOWN]]
    if fixes:
        parts.append(f"<p>What helps, best first:</p><ol>{''.join(fixes)}</ol>")
        more = "; ".join(keys_of(fix) for fix in d.fixes[SHOWN:])
        parts += [f"<p>also: {escape(more)}</p>"] if more else []
    elif not d.will_train:
        parts.append(f"<p>None of the {d.tried} changes that were tried helps.</p>")
    parts.append(_picture(d))
    causes = [f"<li>{escape(str(cause))}</li>" for cause in d.causes]
    parts += [f"<p>Causes:</p><ul>{''.join(causes)}</ul>"] if causes else []
    details = {**d.about, **{f"note {at}": note for at, note in enumerate(d.notes, 1)}, "measured": course_words(d)}
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>" for name, words in details.items())
    return f"<div>{''.join(parts)}<details><summary>details</summary><table>{rows}</table></details></div>"


def _picture(d: Diagnosis) -> str:
    """The figure as an SVG image."""
    if len(d.rows) < 2:
        return ""
    return _image(d.figure(), f"skill along the training, to {d.skill:.2f}, and what each fix reaches")


def health_html(health: Health) -> str:
    """A watched training: what was found, then the figure."""
    found = [
        f"<li><b>step {at}</b>{f', {escape(c.where)}' if c.where else ''}: {escape(c.evidence)}</li>"
        for at, c in zip(health.found_at, health.causes, strict=True)
    ]
    said = f"<ul>{''.join(found)}</ul>" if found else "<p>nothing found</p>"
    picture = _image(health.figure(), "the training, layer by layer")
    return f"<div><p><b>{health.steps} steps watched</b></p>{said}{picture}</div>"


def _image(figure: Figure, told: str) -> str:
    """A figure as an SVG image."""
    import base64
    import io

    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight")
    return f'<img alt="{escape(told)}" src="data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}">'
