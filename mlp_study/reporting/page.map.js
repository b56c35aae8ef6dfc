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
  // The colours span what is there. Accuracies lie evenly on the logarithm of the error, as in
  // the PNG; shares that span little are not blown up to all colours.
  const known = values.filter(finite);
  const high = Math.max(...known);
  const error = /accuracy/.test(metric);
  const least = Math.max(0, Math.min(...known, high - 0.05));
  const low = SHARE.test(metric) ? least : Math.min(...known);
  const place = v => (error ? -Math.log10(1.005 - v) : v);
  const value = x => (error ? 1.005 - 10 ** -x : x);
  return { low, high, place, middle: value((place(low) + place(high)) / 2) };
}

function within({ low, high, place }, value) {
  const span = place(high) - place(low);
  return span > 0 ? (place(value) - place(low)) / span : 0.5;
}

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
  const lines = D.curves.of > 1 ? "; line: validation accuracy by epoch, 0 to 1" : "";
  const caption = `${named(choice.metric)}: ${several}${lines}`;
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
  const ends = [scale.low, scale.middle, scale.high].map(v => make("span", {}, shown(v, 3)));
  fill(
    "map-scale",
    make("span", { class: "scale", style: bar }),
    make("span", { class: "ends" }, ...ends),
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
function phaseText(a, b, cells) {
  return b.levels.map((down, y) =>
    a.levels.map((across, x) => {
      const groups = cells.get(`${y} ${x}`);
      if (!groups) return "";
      const why = whyOf(groups).map(([name, n]) => `<br>${n} × ${name}`);
      const mean = `${named(choice.metric)} ${shown(meanOver(groups, choice.metric))}`;
      const where = `${safe(a.name)} ${safe(across)}, ${safe(b.name)} ${safe(down)}`;
      return `${where}<br>${mean}, n = ${runsOf(groups)}${why.join("")}`;
    }),
  );
}

function phaseGrid(a, b, cells, metric) {
  const mean = key => (cells.has(key) ? meanOver(cells.get(key), metric) : null);
  return b.levels.map((_, y) => a.levels.map((_, x) => mean(`${y} ${x}`)));
}

function phaseTraces(a, b, cells, means) {
  const scale = scaleOf(means.flat(), choice.metric);
  const [x, y] = [[...a.levels.keys()], [...b.levels.keys()]];
  const z = means.map(row => row.map(v => (finite(v) ? scale.place(v) : null)));
  const ticks = [scale.low, scale.middle, scale.high];
  const colorbar = {
    thickness: 12,
    title: { text: named(choice.metric), side: "right" },
    tickvals: ticks.map(scale.place),
    ticktext: ticks.map(v => shown(v, 3)),
  };
  const text = phaseText(a, b, cells);
  const ends = { zmin: scale.place(scale.low), zmax: scale.place(scale.high) };
  const heat = { type: "heatmap", x, y, z, text, hoverinfo: "text", colorscale: "Cividis" };
  const traces = [{ ...heat, ...ends, colorbar }];
  if (x.length * y.length <= 900) traces.push(phaseMarks(cells, means, scale));
  if (D.metrics["initial/stability_index"]) {
    const index = phaseGrid(a, b, cells, "initial/stability_index");
    const logs = index.map(row => row.map(v => (v > 0 ? Math.log10(v) : null)));
    const contours = { start: 0, end: 0, size: 1, coloring: "none" };
    const line = { color: "#D55E00", width: 4 };
    const limit = { type: "contour", x, y, z: logs, contours, line, connectgaps: true };
    traces.push({ ...limit, showscale: false, hoverinfo: "skip" });
  }
  return traces;
}

function phaseMarks(cells, z, scale) {
  // The mark of the mechanism by which most of a cell's runs fail.
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
  const cells = inCells(b, a, groups);
  const means = phaseGrid(a, b, cells, choice.metric);
  const traces = phaseTraces(a, b, cells, means);
  const over = averagedOver(groups, a.name, b.name);
  const limit = D.metrics["initial/stability_index"]
    ? "Orange line: the stability limit, where sharpness at initialisation equals the " +
      "optimizer's threshold; beyond it the first steps overshoot."
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
  const rows = b.levels.map((name, j) => [name, ...means[j].map(v => shown(v, 3))]);
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
