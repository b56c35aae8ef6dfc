"use strict";
// The map of two settings, whose cells carry small learning curves, and the phase diagram.
const CIVIDIS = [
  [0, 34, 78], [33, 61, 109], [77, 85, 108], [108, 110, 114], [138, 134, 121], [170, 158, 116],
  [205, 187, 98], [239, 213, 71], [255, 234, 70],
]; // prettier-ignore
const SHARE = /accuracy|dead|saturated|plateau/;

function paint(share) {
  const x = Math.max(0, Math.min(1, share)) * (CIVIDIS.length - 1);
  const i = Math.min(Math.floor(x), CIVIDIS.length - 2);
  return CIVIDIS[i].map((c, k) => Math.round(c + (CIVIDIS[i + 1][k] - c) * (x - i)));
}

function textOn(rgb) {
  // Black or white, whichever stands out more (WCAG's relative luminance).
  const [r, g, b] = rgb.map(v => {
    const c = v / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

function meanOver(groups, metric) {
  // Of one combination its mean; of several in one cell the mean over all their runs.
  const own = D.metrics[metric];
  const known = own ? groups.filter(g => finite(own.mean[g])) : [];
  const n = known.reduce((sum, g) => sum + own.n[g], 0);
  return n ? known.reduce((sum, g) => sum + own.mean[g] * own.n[g], 0) / n : null;
}

function whyOf(groups) {
  // How many of the groups' runs failed by each mechanism, the most frequent first.
  const counts = new Map();
  for (const [name, n] of groups.flatMap(g => GROUPS.why[g])) {
    counts.set(name, (counts.get(name) || 0) + n);
  }
  return [...counts].sort((a, b) => b[1] - a[1]);
}

const runsOf = groups => groups.reduce((count, g) => count + GROUPS.n[g], 0);

function averagedOver(groups, ...names) {
  // The factors that a map over these settings averages over, in words.
  const others = D.factors.filter(name => !names.includes(name));
  const varying = others.filter(
    name => new Set(groups.map(g => axes.get(name).codes[g])).size > 1,
  );
  return varying.join(", ");
}

function scaleOf(values, metric) {
  // The colours span what is there; a share that spans little of 0 to 1 is not blown up to all colours.
  const known = values.filter(finite);
  const low = Math.min(...known);
  const high = Math.max(...known);
  const least = SHARE.test(metric) ? 0.05 : 0;
  return { low: Math.max(Math.min(low, high - least), SHARE.test(metric) ? 0 : -Infinity), high };
}

const within = (scale, value) =>
  scale.high > scale.low ? (value - scale.low) / (scale.high - scale.low) : 0.5;

function inCells(rows, columns, groups) {
  const cells = new Map();
  for (const g of groups) {
    const key = `${rows.codes[g]} ${columns ? columns.codes[g] : 0}`;
    cells.set(key, [...(cells.get(key) || []), g]);
  }
  return cells;
}

function sparkline(groups, colour) {
  // Validation accuracy (or loss) against epochs, one line a combination.
  const part = D.curves.parts["val/accuracy"] || D.curves.parts["train/accuracy"];
  if (!part || D.curves.epochs.length < 2) return "";
  const last = D.curves.epochs.length - 1;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 60 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "spark");
  for (const g of groups.slice(0, 8)) {
    const points = part.mean[g].map((v, e) => [e, v]).filter(([, v]) => finite(v));
    const line = document.createElementNS(svg.namespaceURI, "polyline");
    const at = ([e, v]) => `${((58 * e) / last + 1).toFixed(1)},${(23 - 22 * v).toFixed(1)}`;
    line.setAttribute("points", points.map(at).join(" "));
    line.setAttribute("stroke", colour);
    svg.append(line);
  }
  return svg;
}

function cellTitle(groups, names, mean) {
  const single = groups.length === 1 ? D.metrics[choice.metric] : null;
  const lines = [names, `mean ${shown(mean)}, n = ${runsOf(groups)}`];
  if (single && finite(single.deviation[groups[0]])) {
    lines[1] += `, deviation ${shown(single.deviation[groups[0]])}`;
  }
  if (groups.length > 1) lines.push(`${groups.length} combinations`);
  for (const [name, n] of whyOf(groups)) {
    lines.push(`${n} of ${runsOf(groups)}: ${name} (${D.mechanisms[name][1]})`);
  }
  for (const name of ["final/dead", "final/saturated", "initial/stability_index"]) {
    if (finite(meanOver(groups, name))) lines.push(`${name} ${shown(meanOver(groups, name), 2)}`);
  }
  return lines.join("\n");
}

function mapCell(groups, names, scale) {
  if (!groups) return make("td", { class: "empty" }, "no run");
  const mean = meanOver(groups, choice.metric);
  const back = finite(mean) ? paint(within(scale, mean)) : [120, 120, 120];
  const ink = textOn(back);
  const deviation = groups.length === 1 ? D.metrics[choice.metric].deviation[groups[0]] : null;
  const why = whyOf(groups)
    .slice(0, 2)
    .map(([name, n]) => {
      const some = n < runsOf(groups) ? ` ${n}/${runsOf(groups)}` : "";
      return make("span", { class: "why" }, `${D.mechanisms[name][0]} ${name}${some}`);
    });
  const style = `background:rgb(${back});color:${ink}`;
  const title = cellTitle(groups, names, mean);
  return make(
    "td",
    { title, style, class: why.length ? "fails" : null },
    make("b", {}, shown(mean, 3)),
    finite(deviation) ? make("small", {}, ` ± ${shown(deviation, 3)}`) : "",
    make("small", {}, ` n = ${runsOf(groups)}`),
    sparkline(groups, ink),
    ...why,
  );
}

function drawMap() {
  const rows = axes.get(choice.rows);
  const columns = axes.get(choice.columns);
  if (!rows || !D.metrics[choice.metric]) return;
  const cells = inCells(rows, columns, live);
  const scale = scaleOf(
    [...cells.values()].map(own => meanOver(own, choice.metric)),
    choice.metric,
  );
  const used = axis => {
    const there = new Set(live.map(g => axis.codes[g]));
    return axis.levels.map((level, code) => [level, code]).filter(([, code]) => there.has(code));
  };
  const overs = columns ? used(columns) : [["all", 0]];
  const head = overs.map(([name]) => make("th", { scope: "col" }, name));
  const corner = `${choice.rows} \\ ${columns ? choice.columns : ""}`;
  const body = used(rows).map(([name, r]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, name),
      ...overs.map(([over, c]) => mapCell(cells.get(`${r} ${c}`), `${name}, ${over}`, scale)),
    ),
  );
  const over = averagedOver(live, choice.rows, choice.columns);
  const several = over
    ? `mean over n runs, averaged over ${over}`
    : "mean ± standard deviation over n runs";
  const caption = `${named(choice.metric)}: ${several}; line: validation accuracy by epoch, 0 to 1`;
  const table = make(
    "table",
    { class: "map" },
    make("caption", { class: "caption" }, caption),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, corner), ...head)),
    make("tbody", {}, ...body),
  );
  fill("map", table);
  walkableCells(table, fill("map-detail", "Choose a cell to read all of it."));
  drawLegend(scale);
}

function drawLegend(scale) {
  const bar = `background:linear-gradient(90deg,${CIVIDIS.map(c => `rgb(${c})`).join(",")})`;
  const why = whyOf(live).map(([name, n]) =>
    make(
      "li",
      {},
      make("b", {}, `${D.mechanisms[name][0]} ${name}`),
      ` (${n}): ${D.mechanisms[name][1]}`,
    ),
  );
  fill(
    "map-scale",
    shown(scale.low, 3),
    make("span", { class: "scale", style: bar }),
    shown(scale.high, 3),
  );
  fill("map-legend", ...why);
}

function buildMap() {
  if (!byId("map-controls")) return;
  const metrics = Object.keys(D.metrics);
  choice.metric = metrics.includes("test/accuracy") ? "test/accuracy" : metrics[0];
  [choice.rows, choice.columns] = D.map;
  const list = [...axes.keys()].map(name => [name, name]);
  const again = key => value => {
    choice[key] = value;
    update();
  };
  fill(
    "map-controls",
    chooser(
      "Metric",
      metrics.map(m => [m, named(m)]),
      choice.metric,
      again("metric"),
      "metric",
    ),
    chooser("Rows", list, choice.rows, again("rows"), "map-rows"),
    chooser("Columns", [["", "none"], ...list], choice.columns, again("columns"), "map-columns"),
  );
}

// ---- phase diagram ----
function phaseTraces(a, b, cells) {
  const grid = metric =>
    b.levels.map((_, y) =>
      a.levels.map((_, x) =>
        cells.has(`${y} ${x}`) ? meanOver(cells.get(`${y} ${x}`), metric) : null,
      ),
    );
  const x = [...a.levels.keys()];
  const y = [...b.levels.keys()];
  const z = grid(choice.metric);
  const text = b.levels.map((down, j) =>
    a.levels.map((across, i) => {
      const groups = cells.get(`${j} ${i}`);
      if (!groups) return "";
      const why = whyOf(groups).map(([name, n]) => `<br>${n} × ${name}`);
      const where = `${safe(a.name)} ${safe(across)}, ${safe(b.name)} ${safe(down)}`;
      return `${where}<br>${named(choice.metric)} ${shown(z[j][i])}, n = ${runsOf(groups)}${why.join("")}`;
    }),
  );
  const bar = { thickness: 12, title: { text: named(choice.metric), side: "right" } };
  const traces = [
    { type: "heatmap", x, y, z, text, hoverinfo: "text", colorscale: "Cividis", colorbar: bar },
  ];
  if (x.length * y.length <= 900) traces.push(phaseMarks(cells, z));
  if (D.metrics["initial/stability_index"]) {
    const logs = grid("initial/stability_index").map(row =>
      row.map(v => (v > 0 ? Math.log10(v) : null)),
    );
    const contours = { start: 0, end: 0, size: 1, coloring: "none" };
    const line = { color: "#D55E00", width: 4 };
    const limit = { type: "contour", x, y, z: logs, contours, line, connectgaps: true };
    traces.push({ ...limit, showscale: false, hoverinfo: "skip" });
  }
  return traces;
}

function phaseMarks(cells, z) {
  // The mark of the mechanism by which most of a cell's runs fail.
  const scale = scaleOf(z.flat(), "");
  const marks = [...cells].flatMap(([key, groups]) => {
    const [y, x] = key.split(" ").map(Number);
    const why = whyOf(groups);
    if (!why.length || 2 * why[0][1] < runsOf(groups)) return [];
    const colour = finite(z[y][x]) ? textOn(paint(within(scale, z[y][x]))) : ink();
    return [{ x, y, text: D.mechanisms[why[0][0]][0], colour }];
  });
  return {
    type: "scatter",
    mode: "text",
    x: marks.map(mark => mark.x),
    y: marks.map(mark => mark.y),
    text: marks.map(mark => mark.text),
    textfont: { color: marks.map(mark => mark.colour), size: 14 },
    hoverinfo: "skip",
  };
}

function drawPhase() {
  const a = axes.get(choice.phaseX);
  const b = axes.get(choice.phaseY);
  const of = axes.get("activation");
  const groups =
    of && choice.phaseOf !== "" ? live.filter(g => of.codes[g] === Number(choice.phaseOf)) : live;
  const traces = phaseTraces(a, b, inCells(b, a, groups));
  const over = averagedOver(groups, a.name, b.name);
  const limit = D.metrics["initial/stability_index"]
    ? "Orange line: the stability limit, where sharpness at initialisation equals the optimizer's " +
      "threshold; beyond it the first steps overshoot."
    : "No stability limit: sharpness at initialisation was not recorded " +
      "(probes.ends=[sharpness,...] records it).";
  fill("phase-note", over ? `Averaged over ${over}. ` : "", limit);
  const ticks = (axis, most) => {
    const every = Math.ceil(axis.levels.length / most); // as many as can be read
    const kept = [...axis.levels.keys()].filter(i => i % every === 0);
    const ticktext = kept.map(i => safe(axis.levels[i]));
    return { tickvals: kept, ticktext, title: { text: safe(axis.name) } };
  };
  draw("phase", traces, {
    height: 460,
    xaxis: ticks(a, narrow("phase") ? 6 : 16),
    yaxis: ticks(b, 24),
  });
  const rows = b.levels.map((name, j) => [name, ...traces[0].z[j].map(v => shown(v, 3))]);
  numbers("phase-numbers", [`${b.name} \\ ${a.name}`, ...a.levels], rows);
}

function buildPhase() {
  if (!byId("phase")) return;
  [choice.phaseX, choice.phaseY] = D.continuous;
  const list = D.continuous.map(name => [name, name]);
  const of = axes.get("activation"); // limits differ: one activation at a time
  choice.phaseOf = of ? "0" : "";
  const again = key => value => {
    choice[key] = value;
    drawPhase();
  };
  const controls = [
    chooser("Across", list, choice.phaseX, again("phaseX"), "phase-x"),
    chooser("Up", list, choice.phaseY, again("phaseY"), "phase-y"),
  ];
  if (of) {
    const kinds = [
      ...of.levels.map((level, code) => [String(code), level]),
      ["", "all together"],
    ];
    controls.push(chooser("Activation", kinds, "0", again("phaseOf"), "phase-of"));
  }
  fill("phase-controls", ...controls);
}
