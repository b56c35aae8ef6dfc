"use strict";
// Charts by Plotly: learning curves, times, gaps, shares of variance, and those of a single run.
// Okabe and Ito (2008); "ink" is the page's own.
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "ink"];
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const GLYPHS = ["●", "■", "▲", "◆", "▼", "✚", "✖"];
const LISTED = 200;
const DOTS = 40;

let forced = null; // "light" while printing
const darkMode = matchMedia("(prefers-color-scheme: dark)");
const dark = () => !forced && darkMode.matches;
const ink = () => (dark() ? "#ececec" : "#1b1b1b");
const grey = () => (dark() ? "#b4b4b4" : "#777777");
const colour = i => (COLOURS[i % COLOURS.length] === "ink" ? ink() : COLOURS[i % COLOURS.length]);
const narrow = id => byId(id).clientWidth < 520;
const titled = text => ({ title: { text } });

function faint(hex, alpha) {
  const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

async function plotting() {
  // The plotting library is stored compressed; the page's policy knows the hash of what comes out.
  const bytes = Uint8Array.from(atob(byId("plotly").textContent), c => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(plain).text();
  document.head.append(script);
}

function empty(target, traces, nothing) {
  // Say so where no value can be drawn; a panel beside others without data takes no room.
  const blank = nothing && !traces.some(trace => trace.y.some(finite));
  const note = target.previousElementSibling;
  if (note && note.classList.contains("blank")) note.remove();
  target.hidden = Boolean(blank);
  const panel = target.parentElement.querySelector("h3") ? target.parentElement : null;
  if (blank) target.before(make("p", { class: "caption blank" }, nothing));
  if (panel) panel.hidden = !blank && !traces.length;
  return blank || (panel && !traces.length);
}

function draw(id, traces, layout, nothing = "") {
  const target = byId(id);
  if (!target || typeof Plotly === "undefined" || empty(target, traces, nothing)) return;
  const line = dark() ? "#45494e" : "#d8d8d8";
  const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
  const full = {
    height: 380,
    margin: { l: 56, r: 24, t: layout.showlegend ? 36 : 12, b: 48 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hovermode: "closest",
    font: { color: ink(), size: narrow(id) ? 11 : 12, family: "system-ui, sans-serif" },
    showlegend: false,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    hoverlabel: { font: { size: 12 } },
    ...layout,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
  const quiet = {
    responsive: true,
    displaylogo: false,
    displayModeBar: false,
    scrollZoom: false,
  };
  Plotly.react(target, traces, full, quiet);
  walkable(target);
}

function logAxis(values, most = 7) {
  // Every 1st, 2nd, 5th ... decade has a label, as many as there is room for; {}: too few decades.
  const found = values.filter(v => finite(v) && v > 0);
  const decades = Math.log10(Math.max(...found) / Math.min(...found));
  if (!(decades > 0.5)) return {};
  const step = [1, 2, 5, 10, 20, 50, 100].find(every => decades / every < most);
  return { type: "log", exponentformat: "power", dtick: decades > 1.5 ? step : "D2" };
}

// ---- learning curves ----
let ticked = null;

function buildTicks() {
  // What is shown first is what the PNG shows; of a filter's choice likewise.
  const here = new Set(live);
  if (ticked === null || ![...ticked].some(g => here.has(g))) {
    ticked = new Set(D.told_first.filter(g => here.has(g)).slice(0, COLOURS.length));
  }
  const box = byId("curve-groups");
  if (!box) return;
  const more = live.slice(LISTED).filter(g => ticked.has(g));
  const labels = [...live.slice(0, LISTED), ...more].map(g => {
    const change = () => {
      ticked[tick.checked ? "add" : "delete"](g);
      drawSection("curves");
      drawSection("units");
    };
    const tick = make("input", { type: "checkbox", onchange: change });
    tick.checked = ticked.has(g);
    return make("label", {}, tick, ` ${GROUPS.label[g]} (n = ${GROUPS.n[g]})`);
  });
  const left = live.length - labels.length;
  const note = left > 0 ? ` (${left} more: filter the runs to list them)` : "";
  const legend = `Curves of ${D.factors.join(" · ") || "all runs"}${note}`;
  box.replaceChildren(make("legend", {}, legend), ...labels);
}

const chosen = () => live.filter(g => ticked.has(g));
const PARTS = {
  accuracy: [["train/accuracy", "dot", "-open"], ["val/accuracy", "solid", ""]],
  loss: [["train/loss", "dot", "-open"], ["val/loss", "solid", ""]],
  dead: [["dead", "solid", ""]],
  saturated: [["saturated", "solid", ""]],
}; // prettier-ignore

function bandTrace(values, g, c) {
  const ends = values.band && values.band[g];
  if (!ends) return [];
  const x = D.curves.epochs;
  const at = [...x.keys()].filter(e => finite(ends[0][e]) && finite(ends[1][e]));
  const back = at.slice().reverse();
  return [
    {
      x: [...at, ...back].map(e => x[e]),
      y: [...at.map(e => ends[1][e]), ...back.map(e => ends[0][e])],
      fill: "toself",
      fillcolor: faint(c, 0.14),
      line: { width: 0 },
      mode: "lines",
      hoverinfo: "skip",
      showlegend: false,
    },
  ];
}

function curveTraces(metric, groups, high) {
  // Losses beyond their axis lie at its end, as triangles.
  const x = D.curves.epochs;
  return groups.flatMap((g, k) =>
    PARTS[metric]
      .filter(([part]) => D.curves.parts[part])
      .flatMap(([part, dash, open]) => {
        const values = D.curves.parts[part];
        const mean = values.mean[g];
        const c = colour(k);
        const beyond = mean.map(v => finite(v) && v > high);
        const symbol = beyond.map(b => (b ? "triangle-up" : SYMBOLS[k % SYMBOLS.length] + open));
        const text = mean.map((v, e) => {
          const half =
            values.half && finite(values.half[g][e]) ? ` ± ${shown(values.half[g][e])}` : "";
          const above = beyond[e] ? " (above the axis)" : "";
          const what = `${part}, epoch ${x[e]}: ${shown(v)}${above}${half}`;
          return `${safe(GROUPS.label[g])}<br>${what}<br>n = ${GROUPS.n[g]}`;
        });
        const line = {
          x,
          y: mean.map((v, e) => (beyond[e] ? high : v)),
          name: safe(`${GROUPS.label[g]}, ${part}`),
          mode: "lines+markers",
          connectgaps: true,
          line: { color: c, dash, width: 2 },
          cliponaxis: false,
          marker: { symbol, size: beyond.map(b => (b ? 11 : 6)), color: c, maxdisplayed: 12 },
          text,
          hoverinfo: "text",
        };
        return [...bandTrace(values, g, c), line];
      }),
  );
}

function isFirstChoice(groups) {
  const first = D.told_first.slice(0, COLOURS.length);
  return groups.length === first.length && groups.every(g => first.includes(g));
}

function curveAxis(metric, groups, traces, high) {
  // Of the curves that are shown first the axis is the PNG's; of others it spans their means.
  const first = D.curves.axes[metric];
  const span = (log, low, top) => ({
    range: [low, top].map(v => (log ? Math.log10(v) : v)),
    ...(log ? logAxis([low, top]) : {}),
  });
  if (isFirstChoice(groups)) return span(first.log, first.low, first.high);
  const values = traces
    .filter(trace => trace.hoverinfo === "text")
    .flatMap(t => t.y.filter(finite));
  if (!values.length) return {};
  const low = Math.min(...values);
  const top = Math.max(...values);
  if (metric === "loss" && low > 0 && top > 100 * low) {
    const beyond = (top / low) ** 0.05;
    return span(true, low / beyond, top === high ? top : top * beyond);
  }
  const beyond = Math.max(0.05 * (top - low), 0.01);
  return span(false, low - beyond, top === high ? top : top + beyond);
}

function lossTop(groups) {
  // Where the loss axis ends, so that one that leaves for infinity does not flatten the others.
  const limit = D.curves.loss_limit ?? Infinity;
  const losses = g =>
    PARTS.loss.flatMap(([part]) =>
      D.curves.parts[part] ? D.curves.parts[part].mean[g].filter(finite) : [],
    );
  const leave = groups.filter(g => losses(g).some(v => v > limit));
  const stay = groups.filter(g => losses(g).length).length - leave.length;
  const told =
    `The loss axis ends at ${limit.toLocaleString("en")}, about a thousand times the first ` +
    `training loss of the middle combination. Triangles at its top: ${leave.length} of the ` +
    `${groups.length} chosen go beyond; choose only such curves to see where.`;
  fill("loss-note", leave.length && stay ? told : "");
  return stay ? limit : Infinity;
}

const lastOf = (part, g) => {
  const values = D.curves.parts[part];
  const e = values ? values.mean[g].findLastIndex(finite) : -1;
  if (e < 0) return ["–", "–"];
  return [shown(values.mean[g][e]), values.half ? shown(values.half[g][e]) : "–"];
};

function chanceLine() {
  const y = D.curves.chance;
  const line = { color: grey(), width: 1.2, dash: "dot" };
  const label = { text: "chance", textposition: "start", yanchor: "top", font: { size: 10 } };
  return { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line, label, layer: "below" };
}

function drawPanels(metrics, names, key, table, nothing) {
  const groups = chosen();
  for (const metric of metrics) {
    const high = metric === "loss" ? lossTop(groups) : Infinity;
    const traces = curveTraces(metric, groups, high);
    const share = { range: [-0.03, 1.03] };
    const yaxis = D.curves.axes[metric] ? curveAxis(metric, groups, traces, high) : share;
    const xaxis = {
      ...titled("epoch"),
      tickformat: "d",
      ...(D.curves.of <= 12 ? { dtick: 1 } : {}),
    };
    const layout = { xaxis, yaxis: { ...titled(names[metric]), ...yaxis } };
    if (metric === "accuracy" && finite(D.curves.chance)) layout.shapes = [chanceLine()];
    draw(`curves-${metric}`, traces, layout, nothing(metric, groups));
  }
  const glyph = k =>
    make("span", { style: `color:${colour(k)}`, "aria-hidden": "true" }, GLYPHS[k % 7]);
  const entry = (g, k) => make("span", { class: "key" }, glyph(k), ` ${GROUPS.label[g]}`);
  fill(key, ...groups.map(entry));
  const parts = metrics.flatMap(metric => PARTS[metric].map(([part]) => part));
  const heads = ["runs", "n", ...parts.flatMap(part => [part, "± (95 %)"])];
  const row = g => [GROUPS.label[g], GROUPS.n[g], ...parts.flatMap(part => lastOf(part, g))];
  numbers(table, heads, groups.map(row));
}

function drawCurves() {
  const names = { accuracy: "accuracy (share of images)", loss: "loss (mean per image)" };
  const why = (metric, groups) =>
    groups.length
      ? `Nothing to draw: no ${metric} of the chosen combinations is finite.`
      : "Nothing to draw: choose a combination above.";
  drawPanels(["accuracy", "loss"], names, "curve-key", "curve-numbers", why);
}

function drawUnits() {
  const names = {
    dead: "dead units (share)",
    saturated: "saturated (unit, image) pairs (share)",
  };
  const why = metric =>
    D.curves.parts[metric]
      ? `Nothing to draw: ${metric} units were recorded for none of the combinations chosen above.`
      : "";
  drawPanels(["dead", "saturated"], names, "units-key", "units-numbers", why);
}

// ---- dots with intervals, bars ----
function wrapped(text, most) {
  // A label's lines, broken between its parts; only what is beyond four lines is cut.
  const lines = [""];
  for (const part of text.split(" · ")) {
    const last = lines.at(-1);
    if (last && last.length + 3 + part.length > most && lines.length < 4) lines.push(part);
    else lines[lines.length - 1] = last ? `${last} · ${part}` : part;
  }
  return lines.map(line => safe(cut(line, most)));
}

function dots(id, list, title) {
  // Entries { label, x, low, high, text }, smallest first, with intervals from low to high.
  const some = list.slice(0, DOTS);
  const small = narrow(id);
  const labels = some.map(entry => wrapped(entry.label, small ? 24 : 60));
  const row = 12 + (small ? 14 : 16) * Math.max(1, ...labels.map(lines => lines.length));
  const y = [...some.keys()];
  const to = (end, x) => (finite(end) ? Math.abs(end - x) : 0);
  const trace = {
    type: "scatter",
    mode: "markers",
    x: some.map(entry => entry.x),
    y,
    marker: {
      size: 9,
      color: some.map(entry => entry.colour || "#0072B2"),
      symbol: some.map(e => e.symbol || "diamond"),
    },
    error_x: {
      type: "data",
      symmetric: false,
      array: some.map(entry => to(entry.high, entry.x)),
      arrayminus: some.map(entry => to(entry.low, entry.x)),
      color: ink(),
      thickness: 1.2,
    },
    text: some.map(entry => `${safe(entry.label)}<br>${entry.text}`),
    hoverinfo: "text",
  };
  const ticktext = labels.map(lines => lines.join("<br>"));
  draw(id, [trace], {
    height: 90 + row * Math.max(some.length, 2),
    xaxis: titled(title),
    yaxis: { tickvals: y, ticktext, range: [Math.max(some.length, 2) - 0.4, -0.6] },
  });
  const note = `The ${DOTS} smallest of ${list.length}; filter the runs to see others.`;
  fill(`${id}-note`, list.length > DOTS ? note : "");
}

function drawTimes() {
  const at = D.times[choice.target];
  if (!at) return;
  const groups = live.slice().sort((a, b) => (at.median[a] ?? 1e99) - (at.median[b] ?? 1e99));
  const end = D.curves.of;
  const said = g =>
    finite(at.median[g]) ? shown(at.median[g], 1) : at.reached[g] ? `> ${end}` : "never";
  const span = g =>
    `${shown(at.low[g], 1)} to ${finite(at.high[g]) ? shown(at.high[g], 1) : `beyond ${end}`}`;
  const list = groups
    .filter(g => at.reached[g])
    .map(g => ({
      label: GROUPS.label[g],
      x: at.median[g] ?? end,
      low: at.low[g],
      high: finite(at.low[g]) ? (at.high[g] ?? end) : null,
      symbol: finite(at.median[g]) ? "diamond" : "triangle-right-open",
      text:
        `median ${said(g)} epochs (95 %: ${span(g)})<br>` +
        `reached by ${at.reached[g]} of ${GROUPS.n[g]}`,
    }));
  dots("times", list, "epochs");
  const never = groups.length - list.length;
  const few = `${never} of ${groups.length} combinations never reach it: the table names them.`;
  fill("times-never", never ? few : "");
  const heads = ["runs", "reached by", "median epochs", "95 % interval", "about seconds"];
  const row = g => [
    GROUPS.label[g],
    `${at.reached[g]} of ${GROUPS.n[g]}`,
    said(g),
    finite(at.low[g]) ? span(g) : "–",
    shown(at.seconds[g], 2),
  ];
  numbers("times-numbers", heads, groups.map(row));
}

function buildTimes() {
  const targets = Object.keys(D.times).sort((a, b) => a - b);
  const half = t => D.times[t].reached.reduce((a, b) => a + b, 0) >= RUNS.id.length / 2;
  choice.target = targets.filter(half).pop() || targets[0];
  const changed = value => {
    choice.target = value;
    drawTimes();
  };
  const list = targets.map(target => [target, target]);
  fill("times-controls", chooser("Accuracy to reach", list, choice.target, changed, "target"));
}

const within95 = half => (finite(half) ? ` ± ${shown(half)} (95 %)` : "");

function drawGaps() {
  const own = D.metrics.gap;
  if (!own) return;
  const known = live.filter(g => finite(own.mean[g])).sort((a, b) => own.mean[a] - own.mean[b]);
  const learn = known.filter(g => !failing(g));
  const list = learn.map(g => {
    const half = finite(own.half[g]) ? own.half[g] : null;
    return {
      label: `${GROUPS.label[g]} (n = ${own.n[g]})`,
      x: own.mean[g],
      low: half === null ? null : own.mean[g] - half,
      high: half === null ? null : own.mean[g] + half,
      text: `mean ${shown(own.mean[g])}${within95(half)}, n = ${own.n[g]}`,
    };
  });
  dots("gap", list, "training less test accuracy");
  const left = known.length - learn.length;
  const are = `${left} failing combination${left > 1 ? "s are" : " is"}`;
  const note = `${are} only in the table: a gap says nothing there.`;
  if (left) fill("gap-note", note);
  const row = g => [GROUPS.label[g], own.n[g], shown(own.mean[g]), shown(own.deviation[g])];
  numbers(
    "gap-numbers",
    ["runs", "n", "gap", "deviation"],
    [...learn, ...known.filter(failing)].map(row),
  );
}

const failing = g => 2 * GROUPS.why[g].reduce((sum, [, n]) => sum + n, 0) > GROUPS.n[g];

function bars(id, list, title) {
  // Entries [name, share, colour].
  const y = [...list.keys()];
  const small = narrow(id);
  const label = name => {
    const text = safe(cut(name, small ? 40 : 60));
    return small ? text.replace(/ × | \(/g, part => "<br>" + part.trimStart()) : text;
  };
  const trace = {
    type: "bar",
    orientation: "h",
    x: list.map(([, share]) => share),
    y,
    marker: { color: list.map(([, , c]) => c) },
    text: list.map(([name, share]) => `${safe(name)}: ${(100 * share).toFixed(1)} %`),
    textposition: "none",
    hoverinfo: "text",
  };
  draw(id, list.length ? [trace] : [], {
    height: 90 + (small ? 40 : 28) * Math.max(list.length, 2),
    xaxis: { ...titled(title), range: [0, 1], tickformat: ".0%" },
    yaxis: { tickvals: y, ticktext: list.map(([name]) => label(name)), autorange: "reversed" },
  });
}

function drawImportance() {
  const shares = D.importance[choice.explained];
  const rest = "the rest (seeds, more factors at once)";
  const list = shares.slice(0, 16).map(([factors, part]) => {
    const c = factors.length === 1 ? "#0072B2" : factors.length ? "#E69F00" : "#999999";
    return [factors.length ? factors.join(" × ") : rest, part, c];
  });
  bars("importance", list, "share of the variance");
  const rows = shares.map(([factors, part]) => [factors.join(" × ") || "the rest", shown(part)]);
  numbers("importance-numbers", ["term", "share"], rows);
}

function buildImportance() {
  const names = Object.keys(D.importance).filter(name => D.importance[name].length);
  choice.explained = names.includes("test/accuracy") ? "test/accuracy" : names[0];
  const changed = value => {
    choice.explained = value;
    drawImportance();
  };
  const list = names.map(name => [name, name]);
  fill(
    "importance-controls",
    chooser("Variance of", list, choice.explained, changed, "explained"),
  );
}

// ---- a single run ----
function drawConfusion() {
  const { classes, counts } = D.confusion;
  const total = counts.map(row =>
    Math.max(
      1,
      row.reduce((a, b) => a + b, 0),
    ),
  );
  const z = counts.map((row, i) => row.map(v => v / total[i]));
  const cells =
    classes.length > 20 ? [] : counts.flatMap((row, i) => row.map((v, j) => [j, i, v]));
  const written = cells.filter(([, , v]) => v);
  const hovertext = counts.map((row, i) =>
    row.map((v, j) => {
      const [was, said] = [i, j].map(c => safe(classes[c]));
      return `true ${was}, predicted ${said}<br>${v} of ${total[i]} images`;
    }),
  );
  const bar = { thickness: 12 };
  const heat = { type: "heatmap", z, zmin: 0, zmax: 1, colorscale: "Cividis", colorbar: bar };
  const labels = {
    type: "scatter",
    mode: "text",
    x: written.map(([j]) => j),
    y: written.map(([, i]) => i),
    text: written.map(([, , v]) => String(v)),
    textfont: { color: written.map(([j, i]) => textOn(paint(z[i][j]))) },
    hoverinfo: "skip",
  };
  const ticks = { tickvals: [...classes.keys()], ticktext: classes.map(safe) };
  const tickangle = classes.some(name => name.length > 3) ? -60 : 0;
  draw("confusion", [{ ...heat, hoverinfo: "text", hovertext }, labels], {
    height: Math.max(480, 90 + 15 * classes.length),
    xaxis: { ...ticks, ...titled("predicted class"), tickangle },
    yaxis: { ...ticks, ...titled("true class"), autorange: "reversed" },
  });
  const rows = counts.map((row, i) => [classes[i], ...row.map(String)]);
  numbers("confusion-numbers", ["true \\ predicted", ...classes], rows);
}

function drawHistograms() {
  D.histograms.forEach(({ edges, share }, layer) => {
    const width = edges[1] - edges[0];
    const text = share.map((v, i) => {
      const [from, to] = [edges[i], edges[i + 1]].map(z => shown(z, 2));
      return `z from ${from} to ${to}<br>${(100 * v).toFixed(2)} %`;
    });
    const x = share.map((_, i) => edges[i] + width / 2);
    const bar = { type: "bar", x, y: share, width, marker: { color: "#0072B2" }, text };
    draw(`histogram-${layer}`, [{ ...bar, textposition: "none", hoverinfo: "text" }], {
      height: 260,
      bargap: 0,
      xaxis: titled(`pre-activation z of hidden layer ${layer}`),
      yaxis: titled("share"),
    });
  });
}
