"use strict";
// Values without a mouse: arrow keys walk through a focused chart's points and a map's cells;
// what hovering shows is spoken.
const places = new WeakMap(); // chart -> the trace and point that the keys have reached
const LINES = new Set(["scatter", "bar", undefined]);
const STEPS = {
  ArrowRight: [0, 1],
  ArrowLeft: [0, -1],
  ArrowDown: [1, 0],
  ArrowUp: [-1, 0],
  Home: [0, -Infinity],
  End: [0, Infinity],
};

function speak(text) {
  document.getElementById("spoken").textContent = text;
}
function walkable(chart) {
  if (chart.dataset.walkable) return;
  chart.dataset.walkable = "true";
  const heading =
    chart.parentElement.querySelector("h3") || chart.closest(".section").querySelector("h2");
  chart.tabIndex = 0;
  chart.setAttribute("role", "application");
  chart.setAttribute("aria-roledescription", "chart");
  chart.setAttribute("aria-label", `${heading.textContent}: arrow keys walk through the values`);
  chart.addEventListener("keydown", event => {
    if (STEPS[event.key] && walk(chart, STEPS[event.key])) event.preventDefault();
  });
  chart.addEventListener("blur", () => {
    if (chart.data) Plotly.Fx.unhover(chart);
  });
}
function pointsOf(trace) {
  // of a line or of bars: those that are drawn; of a heat map: [row, column]
  const there = v => v !== null && v !== undefined && v === v;
  if (LINES.has(trace.type))
    return [...trace.x.keys()].filter(i => there(trace.x[i]) && there(trace.y[i]));
  return trace.z.flatMap((row, r) => [...row.keys()].filter(c => there(row[c])).map(c => [r, c]));
}
function walk(chart, [down, right]) {
  const traces = (chart.data || [])
    .map((trace, i) => ({ trace, i }))
    .filter(({ trace }) => trace.hoverinfo !== "skip" && pointsOf(trace).length);
  if (!traces.length) return false;
  const at = places.get(chart),
    clamp = (v, count) => Math.max(0, Math.min(count - 1, v));
  let place = clamp(at ? at.place : 0, traces.length),
    points = pointsOf(traces[place].trace),
    point = 0;
  if (at) {
    point = clamp(at.point + right, points.length);
    if (down && LINES.has(traces[place].trace.type)) {
      // to the next line: the same place along it
      place = clamp(place + down, traces.length);
      points = pointsOf(traces[place].trace);
      point = clamp(point, points.length);
    } else if (down) {
      // to the next row of a heat map
      const [row, column] = points[point],
        next = points.findIndex(
          ([r, c]) =>
            r === row + down * (chart.layout.yaxis.autorange === "reversed" ? 1 : -1) &&
            c === column,
        );
      point = next < 0 ? point : next;
    }
  }
  places.set(chart, { place, point });
  const { trace, i } = traces[place],
    reached = points[point];
  // Plotly finds a heat map's cell by its place only.
  const [row, column] = Array.isArray(reached) ? reached : [];
  Plotly.Fx.hover(chart, [
    row === undefined
      ? { curveNumber: i, pointNumber: reached }
      : {
          curveNumber: i,
          xval: trace.x ? trace.x[column] : column,
          yval: trace.y ? trace.y[row] : row,
        },
  ]);
  const texts = trace.hovertext || trace.text,
    text = Array.isArray(reached) ? texts[reached[0]][reached[1]] : texts[reached];
  speak(
    text
      .replace(/<br>/g, ", ")
      .replace(/&lt;/g, "<")
      .replace(/&gt;/g, ">")
      .replace(/&amp;/g, "&"),
  );
  return true;
}
function walkableCells(table, detail) {
  // one stop for the Tab key; arrows move inside
  const rows = [...table.tBodies[0].rows].map(row => [...row.cells].filter(cell => cell.title));
  const cells = rows.flat();
  cells.forEach((cell, i) => {
    cell.tabIndex = i ? -1 : 0;
    const tell = () => {
      detail.textContent = cell.title.replace(/\n/g, "; ");
    };
    cell.addEventListener("focus", tell);
    cell.addEventListener("click", () => cell.focus());
    cell.addEventListener("keydown", event => {
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      const r = rows.findIndex(row => row.includes(cell)),
        c = rows[r].indexOf(cell);
      const row = rows[Math.max(0, Math.min(rows.length - 1, r + step[0]))] || rows[r];
      const next = row[Math.max(0, Math.min(row.length - 1, c + step[1]))];
      if (!next) return;
      cells.forEach(other => {
        other.tabIndex = other === next ? 0 : -1;
      });
      next.focus();
    });
  });
}
