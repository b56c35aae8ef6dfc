"use strict";
// Draws the page from the JSON in #data. Names come from configs: they reach the page as text nodes or through `safe`.
const D = JSON.parse(document.getElementById("data").textContent);
const R = D.runs || { id: [] }, N = R.id.length;
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "ink"]; // Okabe & Ito
const MARKS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const MAP = [[0, 34, 78], [33, 61, 109], [77, 85, 108], [108, 110, 114], [138, 134, 121], [170, 158, 116], [205, 187, 98], [239, 213, 71], [255, 234, 70]]; // cividis
const CURVES_SHOWN = 7, GROUPS_LISTED = 200, DOTS_SHOWN = 40, PAGE = 50;
const NAMES = { "gap": "generalisation gap (training less test accuracy)", "seconds": "seconds", "epochs": "epochs" };
const byId = id => document.getElementById(id);
const safe = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); // Plotly reads tags
const named = metric => NAMES[metric] || metric;
const finite = v => v !== null && v !== undefined && Number.isFinite(v);
const shown = (v, digits = 4) => !finite(v) ? "–" : Math.abs(v) < 1e-9 ? (0).toFixed(digits) : (Math.abs(v) >= 1e-4 && Math.abs(v) < 1e5) ? v.toFixed(Math.abs(v) >= 100 ? 1 : digits) : v.toExponential(2);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}
const textOn = rgb => { // black or white, whichever stands out more (WCAG's relative luminance)
  const [r, g, b] = rgb.map(v => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
};
function fill(id, ...children) { const e = byId(id); if (e) e.replaceChildren(...children); return e; }

// ---- statistics -------------------------------------------------------------------------------------------------
function stats(values) {
  const found = values.filter(finite), n = found.length;
  if (!n) return { n, mean: null, deviation: null, half: null };
  const mean = found.reduce((a, b) => a + b, 0) / n;
  if (n === 1) return { n, mean, deviation: null, half: null };
  const deviation = Math.sqrt(found.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1));
  return { n, mean, deviation, half: (D.t[Math.min(n, D.t.length + 1) - 2] || 1.96) * deviation / Math.sqrt(n) };
}
function commonest(names) {
  const counts = new Map();
  for (const name of names) if (name) counts.set(name, (counts.get(name) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

// ---- filters ----------------------------------------------------------------------------------------------------
const axes = new Map((D.axes || []).map(axis => [axis.name, axis]));
const allowed = new Map([...axes].map(([name, axis]) => [name, new Set(axis.levels.keys())]));
let live = [...Array(N).keys()], liveGroups = [];
function refilter() {
  const limits = [...allowed].filter(([name, set]) => set.size < axes.get(name).levels.length);
  const outcome = byId("by-outcome") ? byId("by-outcome").value : "";
  const passes = i => limits.every(([name, set]) => set.has(axes.get(name).codes[i])) &&
    (!outcome || (outcome === "ok" ? !R.mechanism[i] : outcome === "bad" ? R.mechanism[i] : R.mechanism[i] === outcome));
  live = [...Array(N).keys()].filter(passes);
  const inside = new Set(live);
  liveGroups = D.groups.map((members, g) => ({ g, members: members.filter(i => inside.has(i)) })).filter(x => x.members.length);
  const count = byId("count");
  if (count) count.textContent = `${live.length} of ${N} runs shown`;
}
function buildFilters() {
  const box = byId("filters");
  if (!box || !N) return;
  const body = make("div");
  for (const [name, axis] of axes) {
    const set = make("fieldset", {}, make("legend", {}, name));
    axis.levels.forEach((level, code) => {
      const tick = make("input", { type: "checkbox", "data-factor": name, "data-level": level });
      const start = !(name === "data" && D.data && level !== D.data);
      tick.checked = start;
      if (!start) allowed.get(name).delete(code);
      tick.addEventListener("change", () => { allowed.get(name)[tick.checked ? "add" : "delete"](code); update(); });
      set.append(make("label", {}, tick, " " + level));
    });
    body.append(set);
  }
  const outcome = make("select", { id: "by-outcome", onchange: update },
    ...[["", "all runs"], ["ok", "runs that learn"], ["bad", "runs that fail"], ...Object.keys(D.mechanisms).filter(m => R.mechanism.includes(m)).map(m => [m, "fails: " + m])].map(([value, text]) => make("option", { value }, text)));
  const all = make("button", { type: "button", onclick: () => { box.querySelectorAll("input[type=checkbox]").forEach(t => { t.checked = true; }); for (const [name, axis] of axes) allowed.set(name, new Set(axis.levels.keys())); outcome.value = ""; update(); } }, "Show all");
  box.replaceChildren(make("summary", {}, "Filter the runs in all sections: ", make("strong", { id: "count", "aria-live": "polite" })), body, make("div", { class: "controls" }, make("label", {}, "How they ended", outcome), all));
}
function chooser(label, options, value, changed, id) {
  const select = make("select", { id, onchange: () => changed(select.value) }, ...options.map(([v, text]) => make("option", { value: v }, text)));
  select.value = value;
  return make("label", {}, label, select);
}
const groupLabel = g => D.factors.map(f => { const a = axes.get(f); const i = D.groups[g][0]; return !a ? "" : a.values ? String(a.values[i]) : a.levels[a.codes[i]]; })
  .filter((level, k) => level !== "null" || !D.factors[k].startsWith("experiment")).join(" · ") || (N === 1 ? "this run" : "all runs"); // null: of no experiment
function wrapped(text, most) { // a label's lines, broken between its parts; only what is beyond four lines is cut
  const lines = [""];
  for (const part of text.split(" · ")) { if (lines.at(-1) && lines.at(-1).length + 3 + part.length > most && lines.length < 4) lines.push(part); else lines[lines.length - 1] += (lines.at(-1) ? " · " : "") + part; }
  return lines.map(line => safe(cut(line, most)));
}
const cut = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

// ---- Plotly -----------------------------------------------------------------------------------------------------
let forced = null; // "light" while printing
const darkMode = matchMedia("(prefers-color-scheme: dark)");
const dark = () => !forced && darkMode.matches;
const ink = () => dark() ? "#ececec" : "#1b1b1b";
const colour = i => COLOURS[i % COLOURS.length] === "ink" ? ink() : COLOURS[i % COLOURS.length];
const faint = (c, a) => `rgba(${parseInt(c.slice(1, 3), 16)},${parseInt(c.slice(3, 5), 16)},${parseInt(c.slice(5, 7), 16)},${a})`;
function draw(id, traces, layout, nothing = "") { // `nothing`: what to say where no value can be drawn
  const target = byId(id);
  if (!target) return;
  const blank = nothing && !traces.some(t => t.y.some(finite)), note = target.previousElementSibling;
  if (note && note.classList.contains("blank")) note.remove();
  target.hidden = Boolean(blank);
  if (blank) { target.before(make("p", { class: "caption blank" }, nothing)); target.parentElement.hidden = false; return; }
  if (target.parentElement.querySelector("h3")) { // a panel beside others: without data it takes no room
    target.parentElement.hidden = !traces.length;
    if (!traces.length) return;
  }
  const line = dark() ? "#45494e" : "#d8d8d8", narrow = target.clientWidth < 520;
  const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
  const full = { height: 380, margin: { l: 56, r: 24, t: 12, b: 48 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { color: ink(), size: narrow ? 11 : 12, family: "system-ui, sans-serif" }, showlegend: false, hoverlabel: { font: { size: 12 } }, ...layout };
  for (const key of Object.keys(full)) if (/^[xy]axis/.test(key)) full[key] = { ...axis, ...full[key] };
  full.xaxis = full.xaxis || axis; full.yaxis = full.yaxis || axis;
  Plotly.react(target, traces, full, { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false });
  walkable(target);
}
function numbers(id, columns, rows, most = 400) { // every chart's numbers as a table, for those who do not see it
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...columns.map(c => make("th", { scope: "col" }, c)))),
    make("tbody", {}, ...rows.slice(0, most).map(row => make("tr", {}, ...row.map((v, i) => i ? make("td", { class: "number" }, v) : make("th", { scope: "row" }, v))))));
  const box = byId(id);
  if (!box) return;
  box.replaceChildren(make("summary", {}, "The numbers as a table"), make("div", { class: "scroll long", tabindex: 0, role: "region", "aria-label": "numbers" }, table), rows.length > most ? make("p", { class: "caption" }, `The first ${most} of ${rows.length}; the CSV has all.`) : "");
}

// ---- heat map ---------------------------------------------------------------------------------------------------
const choice = {};
function paint(share) {
  const x = Math.max(0, Math.min(1, share)) * (MAP.length - 1), i = Math.min(Math.floor(x), MAP.length - 2);
  return MAP[i].map((c, k) => Math.round(c + (MAP[i + 1][k] - c) * (x - i)));
}
function differing(cells) { // the factors in which runs differ that stand in one cell, in words
  const names = D.factors.filter(f => cells.some(members => new Set(members.map(i => axes.get(f).codes[i])).size > 1));
  return names.length ? `, which differ in ${names.join(", ")}` : "";
}
function heatMap() {
  const rows = axes.get(choice.rows), columns = axes.get(choice.columns), metric = D.metrics[choice.metric];
  if (!rows || !metric || !byId("map")) return;
  const width = columns ? columns.levels.length : 1, cells = new Map();
  for (const i of live) {
    const key = rows.codes[i] * width + (columns ? columns.codes[i] : 0);
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(i);
  }
  const found = new Map([...cells].map(([key, members]) => [key, { ...stats(members.map(i => metric[i])), members, why: commonest(members.map(i => R.mechanism[i])) }]));
  const means = [...found.values()].map(c => c.mean).filter(finite);
  const share = /accuracy|dead|saturated|plateau/.test(choice.metric);
  const low = share ? 0 : Math.min(...means), high = share ? 1 : Math.max(...means);
  const used = (axis, code) => axis.levels.map((level, i) => [level, i]).filter(([, i]) => [...cells.keys()].some(k => code(k) === i));
  const downs = used(rows, k => Math.floor(k / width)), overs = columns ? used(columns, k => k % width) : [["all", 0]];
  const cell = (r, c, rowName, columnName) => {
    const at = found.get(r * width + c);
    if (!at) return make("td", { class: "empty" }, "no run");
    const back = finite(at.mean) ? paint(high > low ? (at.mean - low) / (high - low) : 0.5) : [120, 120, 120];
    const diag = ["final/dead", "final/saturated", "initial/stability_index"].filter(d => D.metrics[d]).map(d => `${d} ${shown(stats(at.members.map(i => D.metrics[d][i])).mean, 2)}`);
    const title = [`${rowName}, ${columnName}`, `mean ${shown(at.mean)}, deviation ${shown(at.deviation)}, n = ${at.members.length}`, ...at.why.map(([w, n]) => `${n} of ${at.members.length}: ${w} (${D.mechanisms[w][1]})`), ...diag].join("\n");
    const td = make("td", { title, style: `background:rgb(${back});color:${textOn(back)}` }, make("b", {}, shown(at.mean, 3)), make("br"),
      at.deviation === null ? "" : `± ${shown(at.deviation, 3)}`, at.deviation === null ? "" : make("br"), `n = ${at.members.length}`);
    for (const [w, n] of at.why.slice(0, 2)) td.append(make("span", { class: "why" }, `${D.mechanisms[w][0]} ${w}${n < at.members.length ? ` ${n}/${at.members.length}` : ""}`));
    return td;
  };
  const head = make("tr", {}, make("th", { scope: "col" }, `${choice.rows} \\ ${columns ? choice.columns : ""}`), ...overs.map(([name]) => make("th", { scope: "col" }, name)));
  fill("map", make("table", { class: "map" }, make("caption", { class: "caption" }, `${named(choice.metric)}: mean ± standard deviation over n runs${differing([...cells.values()])}`), make("thead", {}, head),
    make("tbody", {}, ...downs.map(([name, r]) => make("tr", {}, make("th", { scope: "row" }, name), ...overs.map(([over, c]) => cell(r, c, name, over)))))));
  walkableCells(byId("map").firstChild, fill("map-detail", "Choose a cell to read all of it."));
  const bar = MAP.map(c => `rgb(${c})`).join(",");
  fill("map-scale", `${shown(low, 3)} `, make("span", { class: "scale", style: `background:linear-gradient(90deg,${bar})` }), ` ${shown(high, 3)}. `,
    ...commonest(live.map(i => R.mechanism[i])).map(([w, n]) => `${D.mechanisms[w][0]} ${w}: ${D.mechanisms[w][1]} (${n} run${n > 1 ? "s" : ""}). `));
}
function buildHeatMap() {
  if (!byId("map-controls")) return;
  const names = [...axes.keys()], metrics = Object.keys(D.metrics);
  choice.metric = metrics.includes("test/accuracy") ? "test/accuracy" : metrics[0];
  const list = names.map(n => [n, n]);
  if (D.kind === "reproduction" && names.includes("activation")) names.unshift("activation");
  choice.rows = names.includes("activation") ? "activation" : names[0];
  choice.columns = D.kind === "comparison" && names.includes("folders") ? "folders" : names.includes("data.scale") && choice.rows !== "data.scale" ? "data.scale" : names.find(n => n !== choice.rows) || "";
  fill("map-controls", chooser("Metric", metrics.map(m => [m, named(m)]), choice.metric, v => { choice.metric = v; update(); }, "metric"),
    chooser("Rows", list, choice.rows, v => { choice.rows = v; heatMap(); }, "map-rows"),
    chooser("Columns", [["", "none"], ...list], choice.columns, v => { choice.columns = v; heatMap(); }, "map-columns"));
}

// ---- curves -----------------------------------------------------------------------------------------------------
let ticked = null;
function ranked() { // what to show first, as the PNG does; of a filter's choice likewise
  const here = new Set(liveGroups.map(x => x.g));
  return D.told_first.filter(g => here.has(g)).slice(0, CURVES_SHOWN);
}
function buildTicks() {
  const box = byId("curve-groups"), here = new Set(liveGroups.map(x => x.g));
  if (ticked === null || ![...ticked].some(g => here.has(g))) ticked = new Set(ranked());
  if (!box) return;
  const listed = liveGroups.slice(0, GROUPS_LISTED);
  for (const g of ticked) if (!listed.some(x => x.g === g)) { const extra = liveGroups.find(x => x.g === g); if (extra) listed.push(extra); }
  const children = listed.map(({ g, members }) => {
    const tick = make("input", { type: "checkbox" });
    tick.checked = ticked.has(g);
    tick.addEventListener("change", () => { ticked[tick.checked ? "add" : "delete"](g); drawCurves(); });
    return make("label", {}, tick, ` ${groupLabel(g)} (n = ${members.length})`);
  });
  const more = liveGroups.length - listed.length;
  box.replaceChildren(make("legend", {}, `Curves of ${D.factors.join(" · ") || "all runs"}` + (more > 0 ? ` (${more} more: filter the runs to list them)` : "")), ...children);
}
function logAxis(values, most = 7) { // every 1st, 2nd, 5th ... decade has a label, as many as there is room for; {}: too few decades
  const found = values.filter(v => finite(v) && v > 0), decades = Math.log10(Math.max(...found) / Math.min(...found));
  if (!(decades > 0.5)) return {};
  return { type: "log", exponentformat: "power", dtick: decades > 1.5 ? [1, 2, 5, 10, 20, 50, 100].find(step => decades / step < most) : "D2" };
}
function axisOf(metric, parts, chosen, limit) { // as `axis_ends` of figures/curves.py: the means set the axis, bands do not
  const means = parts.flatMap(([part]) => D.curves.parts[part] ? chosen.flatMap(g => D.curves.parts[part].mean[g].filter(finite)) : []);
  const rule = D.curves.axis, least = Math.min(...means), most = Math.max(...means);
  let low = least, high = metric === "loss" ? Math.min(most, limit) : most;
  if (metric === "loss" && low > 0 && low < most / rule.decades) {
    const beyond = Math.max(high / low, 10) ** rule.margin;
    return { log: true, low: low / beyond, high: high === limit ? limit : high * beyond };
  }
  const span = rule.least[metric] * (metric === "loss" ? Math.max(Math.abs(low), Math.abs(high)) : 1) || rule.margin;
  const beyond = Math.max(rule.margin * (high - low), (span - high + low) / 2);
  if (metric === "accuracy") [low, high] = [Math.max(low, -0.02 + beyond), Math.max(Math.min(high, 1.02 - beyond), 0.02 - beyond)];
  return { log: false, low: low - beyond, high: high === limit ? limit : high + beyond };
}
const place = (axis, v) => axis.log ? Math.log10(v / axis.low) / Math.log10(axis.high / axis.low) : (v - axis.low) / (axis.high - axis.low);
const plotly = axis => ({ range: [axis.low, axis.high].map(v => axis.log ? Math.log10(v) : v), ...(axis.log ? logAxis([axis.low, axis.high]) : {}) });
function band(mean, half, most, axis) { // as `band` there: epochs and both ends, none where it covers most of the axis
  const inside = v => Math.max(axis.low, Math.min(axis.high, most, Math.max(0, v)));
  const rows = [...mean.keys()].filter(e => finite(mean[e]) && finite(half[e])).map(e => [e, inside(mean[e] - half[e]), inside(mean[e] + half[e])]);
  const wide = rows.map(([, a, b]) => place(axis, b) - place(axis, a)).sort((a, b) => a - b), at = D.curves.axis.quantile * (wide.length - 1);
  const share = wide.length ? wide[Math.floor(at)] + (wide[Math.ceil(at)] - wide[Math.floor(at)]) * (at % 1) : Infinity;
  return share < D.curves.axis.widest && rows.some(([e]) => half[e] > 0) ? rows : [];
}
function curveTraces(parts, live, most, axis) { // losses beyond their axis lie at its end
  const traces = [], high = axis.high;
  live.forEach((g, k) => {
    for (const [part, dash, symbol] of parts) {
      const values = D.curves.parts[part];
      if (!values) continue;
      const c = colour(k), mean = values.mean[g], half = values.half ? values.half[g] : null, x = D.curves.epochs, label = groupLabel(g);
      const ends = half ? band(mean, half, most, axis) : [];
      if (ends.length) traces.push({ x: [...ends.map(([e]) => x[e]), ...ends.map(([e]) => x[e]).reverse()], y: [...ends.map(t => t[2]), ...ends.map(t => t[1]).reverse()], fill: "toself", fillcolor: faint(c, 0.14), line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false });
      const beyond = mean.map(v => finite(v) && v > high), own = MARKS[k % MARKS.length] + symbol, any = beyond.includes(true);
      traces.push({ x, y: mean.map((v, e) => beyond[e] ? high : v), name: safe(`${label}, ${part}`), mode: "lines+markers", connectgaps: true, line: { color: c, dash, width: 2 }, cliponaxis: false, marker: { symbol: any ? beyond.map(b => b ? "triangle-up" : own) : own, size: any ? beyond.map(b => b ? 11 : 6) : 6, color: c, maxdisplayed: 12 },
        text: x.map((_, e) => `${safe(label)}<br>${part}, epoch ${x[e]}: ${shown(mean[e])}${beyond[e] ? " (above the axis)" : ""}${half && finite(half[e]) ? " ± " + shown(half[e]) : ""}<br>n = ${D.groups[g].length}`), hoverinfo: "text" });
    }
  });
  return traces;
}
function drawCurves() {
  if (!D.curves || !byId("curves-accuracy")) return;
  const chosen = liveGroups.map(x => x.g).filter(g => ticked.has(g));
  const lossesOf = g => ["train/loss", "val/loss"].flatMap(p => D.curves.parts[p] ? D.curves.parts[p].mean[g].filter(finite) : []);
  const leaves = chosen.filter(g => lossesOf(g).some(v => v > (D.curves.loss_limit ?? Infinity)));
  const top = leaves.length < chosen.filter(g => lossesOf(g).length).length ? D.curves.loss_limit ?? Infinity : Infinity; // curves that all leave have no other to flatten
  fill("loss-note", leaves.length && finite(top) ? `The loss axis ends at ${top.toLocaleString("en")}, about a thousand times the first training loss of the middle combination. Triangles at its top: ${leaves.length} of the ${chosen.length} chosen go beyond; choose only such curves to see where.` : "");
  const both = metric => [[`train/${metric}`, "dot", "-open"], [`val/${metric}`, "solid", ""]];
  const epochs = { title: { text: "epoch" }, ...(D.curves.of <= 12 ? { dtick: 1 } : {}), tickformat: "d" };
  const blank = what => `Nothing to draw: ${chosen.length ? `no ${what} of the chosen combinations is finite` : "choose a combination above"}.`;
  const accuracy = axisOf("accuracy", both("accuracy"), chosen, Infinity), loss = axisOf("loss", both("loss"), chosen, top), share = { log: false, low: -0.03, high: 1.03 };
  draw("curves-accuracy", curveTraces(both("accuracy"), chosen, 1, accuracy), { xaxis: epochs, yaxis: { title: { text: "accuracy (share of images)" }, ...plotly(accuracy) } }, blank("accuracy"));
  draw("curves-loss", curveTraces(both("loss"), chosen, Infinity, loss), { xaxis: epochs, yaxis: { title: { text: "loss (mean per image)" }, ...plotly(loss) } }, blank("loss"));
  const none = what => D.curves.parts[what] ? `Nothing to draw: ${what} units were recorded for none of the combinations chosen above, for others they were.` : "";
  draw("curves-dead", curveTraces([["dead", "solid", ""]], chosen, 1, share), { xaxis: epochs, yaxis: { title: { text: "dead units (share)" }, ...plotly(share) } }, none("dead"));
  draw("curves-saturated", curveTraces([["saturated", "solid", ""]], chosen, 1, share), { xaxis: epochs, yaxis: { title: { text: "saturated (unit, image) pairs (share)" }, ...plotly(share) } }, none("saturated"));
  for (const id of ["curve-key", "units-key"]) fill(id, ...chosen.map((g, k) => make("span", { class: "key" }, make("span", { style: `color:${colour(k)}`, "aria-hidden": "true" }, ["●", "■", "▲", "◆", "▼", "✚", "✖"][k % 7]), ` ${groupLabel(g)}`)));
  const last = (part, g) => { const v = D.curves.parts[part]; if (!v) return ["–", "–"]; const at = v.mean[g].map((m, e) => [m, e]).filter(([m]) => finite(m)).pop(); return at ? [shown(at[0]), v.half ? shown(v.half[g][at[1]]) : "–"] : ["–", "–"]; };
  const table = parts => ["runs", "n", ...parts.flatMap(p => [p, "± (95 %)"])];
  const parts = ["train/accuracy", "val/accuracy", "train/loss", "val/loss"], units = ["dead", "saturated"];
  numbers("curve-numbers", table(parts), chosen.map(g => [groupLabel(g), D.groups[g].length, ...parts.flatMap(p => last(p, g))]));
  numbers("units-numbers", table(units), chosen.map(g => [groupLabel(g), D.groups[g].length, ...units.flatMap(p => last(p, g))]));
}

// ---- dots with intervals ------------------------------------------------------------------------------------------
function dots(id, list, valueOf, title, extra, least = -Infinity) { // no interval reaches below what can be
  const found = list.map(x => ({ ...x, ...stats(x.members.map(valueOf)) })).filter(x => x.n || extra).sort((a, b) => (a.mean ?? 1e99) - (b.mean ?? 1e99));
  const some = found.filter(x => x.n).slice(0, DOTS_SHOWN), narrow = byId(id).clientWidth < 520;
  const y = some.map((_, i) => i), labels = some.map(s => wrapped(`${groupLabel(s.g)} (n = ${s.n})`, narrow ? 24 : 60)), row = 12 + (narrow ? 14 : 16) * Math.max(1, ...labels.map(lines => lines.length));
  draw(id, [{ type: "scatter", mode: "markers", x: some.map(s => s.mean), y, marker: { size: 9, color: "#0072B2", symbol: "diamond" }, error_x: { type: "data", symmetric: false, array: some.map(s => s.half || 0), arrayminus: some.map(s => Math.min(s.half || 0, s.mean - least)), color: ink(), thickness: 1.2 },
    text: some.map(s => `${safe(groupLabel(s.g))}<br>mean ${shown(s.mean)}${s.half === null ? "" : " ± " + shown(s.half) + " (95 %)"}<br>deviation ${shown(s.deviation)}, n = ${s.n}${extra ? "<br>" + extra(s) : ""}`), hoverinfo: "text" }],
    { height: 90 + row * Math.max(some.length, 2), xaxis: { title: { text: title } }, yaxis: { tickvals: y, ticktext: labels.map(lines => lines.join("<br>")), range: [Math.max(some.length, 2) - 0.4, -0.6] } });
  fill(`${id}-note`, found.length > some.length && some.length === DOTS_SHOWN ? `The ${DOTS_SHOWN} smallest of ${found.filter(x => x.n).length}; filter the runs to see others.` : "");
  return found;
}
function times() {
  if (!byId("times")) return;
  const at = D.times[choice.target];
  const found = dots("times", liveGroups, i => at[i], "epochs", s => `reached by ${s.n} of ${s.members.length}`, 1);
  const cost = i => at[i] && D.metrics.seconds && D.metrics.epochs ? D.metrics.seconds[i] / D.metrics.epochs[i] * at[i] : null;
  numbers("times-numbers", ["runs", "reached", "mean epochs", "deviation", "about seconds"], found.map(s => [groupLabel(s.g), `${s.n} of ${s.members.length}`, shown(s.mean, 2), shown(s.deviation, 2), shown(stats(s.members.map(cost)).mean, 2)]));
}
function gaps() {
  if (!byId("gap") || !D.metrics.gap) return;
  const found = dots("gap", liveGroups, i => D.metrics.gap[i], "training less test accuracy");
  numbers("gap-numbers", ["runs", "n", "gap", "deviation"], found.map(s => [groupLabel(s.g), s.n, shown(s.mean), shown(s.deviation)]));
}
function bars(id, list, title) { // [name, share, colour]
  const y = list.map((_, i) => i), narrow = byId(id).clientWidth < 520, lines = name => safe(cut(name, narrow ? 40 : 60)).replace(/ × | \(/g, part => (narrow ? "<br>" + part.trimStart() : part));
  draw(id, list.length ? [{ type: "bar", orientation: "h", x: list.map(s => s[1]), y, marker: { color: list.map(s => s[2]) }, text: list.map(([name, share]) => `${safe(name)}: ${(100 * share).toFixed(1)} %`), textposition: "none", hoverinfo: "text" }] : [],
    { height: 90 + (narrow ? 40 : 28) * Math.max(list.length, 2), xaxis: { title: { text: title }, range: [0, 1], tickformat: ".0%" }, yaxis: { tickvals: y, ticktext: list.map(s => lines(s[0])), autorange: "reversed" } });
}
function importance() {
  const shares = D.importance && D.importance[choice.explained];
  if (!byId("importance") || !shares) return;
  const some = shares.slice(0, 16).map(([f, part]) => [f.length ? f.join(" × ") : "the rest (seeds, more factors at once)", part, f.length === 1 ? "#0072B2" : f.length ? "#E69F00" : "#999999"]);
  bars("importance", some, "share of the variance");
  numbers("importance-numbers", ["term", "share"], shares.map(([f, part]) => [f.length ? f.join(" × ") : "the rest", shown(part)]));
}
function phase() {
  if (!byId("phase")) return;
  const a = axes.get(choice.phaseX), b = axes.get(choice.phaseY), metric = D.metrics[choice.metric];
  const cells = a.levels.map(() => b.levels.map(() => []));
  const of = axes.get("activation"), chosen = of && choice.phaseOf !== "" ? live.filter(i => of.codes[i] === Number(choice.phaseOf)) : live;
  for (const i of chosen) cells[a.codes[i]][b.codes[i]].push(i);
  const grid = values => b.levels.map((_, y) => a.levels.map((_, x) => { const s = stats(cells[x][y].map(i => values[i])); return finite(s.mean) ? s.mean : null; }));
  const z = grid(metric), x = a.levels.map((_, i) => i), y = b.levels.map((_, i) => i);
  const text = b.levels.map((_, j) => a.levels.map((_, i) => { const why = commonest(cells[i][j].map(k => R.mechanism[k])); return cells[i][j].length ? `${safe(choice.phaseX)} ${safe(a.levels[i])}, ${safe(choice.phaseY)} ${safe(b.levels[j])}<br>${named(choice.metric)} ${shown(z[j][i])}, n = ${cells[i][j].length}${why.length ? "<br>" + why.map(w => `${w[1]} × ${w[0]}`).join(", ") : ""}` : ""; }));
  const traces = [{ type: "heatmap", x, y, z, text, hoverinfo: "text", colorscale: "Cividis", colorbar: { thickness: 12, title: { text: named(choice.metric), side: "right" } } }];
  const marks = { x: [], y: [], text: [], colours: [] }, known = z.flat().filter(finite), low = Math.min(...known), high = Math.max(...known);
  b.levels.forEach((_, j) => a.levels.forEach((_, i) => { const why = commonest(cells[i][j].map(k => R.mechanism[k])); if (why.length && 2 * why[0][1] >= cells[i][j].length) { marks.x.push(i); marks.y.push(j); marks.text.push(D.mechanisms[why[0][0]][0]); marks.colours.push(finite(z[j][i]) ? textOn(paint(high > low ? (z[j][i] - low) / (high - low) : 0.5)) : ink()); } }));
  if (a.levels.length * b.levels.length <= 900) traces.push({ type: "scatter", mode: "text", x: marks.x, y: marks.y, text: marks.text, textfont: { color: marks.colours, size: 14 }, hoverinfo: "skip" });
  const index = D.metrics["initial/stability_index"];
  if (index) {
    const logs = grid(index).map(row => row.map(v => v > 0 ? Math.log10(v) : null));
    traces.push({ type: "contour", x, y, z: logs, contours: { start: 0, end: 0, size: 1, coloring: "none" }, line: { color: "#D55E00", width: 4 }, showscale: false, hoverinfo: "skip", connectgaps: true });
  }
  const pooled = differing(cells.flat());
  fill("phase-note", pooled ? `Means over runs${pooled}. ` : "", index ? "Orange line: the stability limit, where sharpness at initialisation equals the optimizer's threshold; beyond it the first steps overshoot." : "No stability limit: sharpness at initialisation was not recorded (probes.ends=[sharpness,...] records it).");
  const ticks = (axis, most) => { // as many as can be read
    const every = Math.ceil(axis.levels.length / most), kept = [...axis.levels.keys()].filter(i => i % every === 0);
    return { tickvals: kept, ticktext: kept.map(i => safe(axis.levels[i])) };
  };
  const across = byId("phase").clientWidth < 520 ? 6 : 16;
  draw("phase", traces, { height: 460, xaxis: { ...ticks(a, across), title: { text: safe(choice.phaseX) } }, yaxis: { ...ticks(b, 24), title: { text: safe(choice.phaseY) } } });
  numbers("phase-numbers", [`${choice.phaseY} \\ ${choice.phaseX}`, ...a.levels], b.levels.map((name, j) => [name, ...z[j].map(v => shown(v, 3))]));
}

// ---- run table ----------------------------------------------------------------------------------------------------
const order = { column: null, down: true, page: 0 };
function columnsOfTable() {
  const list = [{ name: "run", value: i => R.id[i], cell: i => make("a", { href: R.link[i], title: R.folder[i] }, R.id[i].slice(0, 8)) }];
  for (const [name, axis] of axes) list.push({ name, value: i => axis.numeric && axis.values ? axis.values[i] : axis.numeric ? Number(axis.levels[axis.codes[i]]) : axis.levels[axis.codes[i]], cell: i => axis.values ? shown(axis.values[i]) : axis.levels[axis.codes[i]] });
  list.push({ name: "seed", value: i => R.seed[i], cell: i => String(R.seed[i] ?? "–") }, { name: "outcome", value: i => R.outcome[i], cell: i => make("span", { title: R.cause[i] || "" }, R.outcome[i]) },
    { name: "mechanism", value: i => R.mechanism[i] || "", cell: i => R.mechanism[i] ? `${D.mechanisms[R.mechanism[i]][0]} ${R.mechanism[i]}` : "" });
  for (const m of ["test/accuracy", "test/loss", "val/accuracy", "train/accuracy", "gap", "epochs", "final/dead", "final/saturated", "initial/stability_index"]) if (D.metrics[m]) list.push({ name: m, number: true, value: i => D.metrics[m][i], cell: i => shown(D.metrics[m][i], m === "epochs" ? 0 : 4) });
  return list;
}
function runTable() {
  if (!byId("runs-table")) return;
  const columns = columnsOfTable(), words = (byId("search").value || "").toLowerCase().split(/\s+/).filter(Boolean);
  const line = i => [R.id[i], R.outcome[i], R.mechanism[i] || "", R.cause[i] || "", ...[...axes].map(([n, a]) => `${n}=${a.levels[a.codes[i]]}`), `seed=${R.seed[i]}`].join(" ").toLowerCase();
  let rows = words.length ? live.filter(i => { const l = line(i); return words.every(w => l.includes(w)); }) : live.slice();
  const by = columns.find(c => c.name === order.column);
  if (by) rows.sort((a, b) => { const x = by.value(a), y = by.value(b), lost = v => v === null || v === undefined || v === ""; if (lost(x) || lost(y)) return lost(x) - lost(y); return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1); });
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  order.page = Math.max(0, Math.min(order.page, pages - 1));
  const sort = name => () => { if (order.column === name) order.down = !order.down; else { order.column = name; order.down = true; } order.page = 0; runTable(); const b = document.querySelector(`#runs-table th[data-name="${CSS.escape(name)}"] button`); if (b) b.focus(); };
  const head = columns.map(c => make("th", { scope: "col", "data-name": c.name, "aria-sort": order.column === c.name ? (order.down ? "descending" : "ascending") : "none" }, make("button", { type: "button", onclick: sort(c.name) }, c.name + (order.column === c.name ? (order.down ? " ▼" : " ▲") : ""))));
  const body = rows.slice(order.page * PAGE, (order.page + 1) * PAGE).map(i => make("tr", {}, ...columns.map(c => make("td", { class: c.number ? "number" : null }, c.cell(i)))));
  fill("runs-table", make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  const turn = by => () => { order.page += by; runTable(); };
  fill("pager", make("button", { type: "button", disabled: order.page === 0, onclick: turn(-1) }, "Previous"), make("span", { "aria-live": "polite" }, `${rows.length} runs, page ${order.page + 1} of ${pages}`), make("button", { type: "button", disabled: order.page >= pages - 1, onclick: turn(1) }, "Next"));
}

// ---- one run's own charts -----------------------------------------------------------------------------------------
function confusion() {
  const c = D.confusion;
  if (!c || !byId("confusion")) return;
  const total = c.counts.map(row => Math.max(1, row.reduce((a, b) => a + b, 0))), ticks = { tickvals: c.classes.map((_, i) => i), ticktext: c.classes.map(safe) };
  const cells = c.classes.length <= 20 ? c.counts.flatMap((row, i) => row.map((v, j) => [j, i, v])).filter(([, , v]) => v) : [];
  const written = [{ type: "scatter", mode: "text", x: cells.map(t => t[0]), y: cells.map(t => t[1]), text: cells.map(t => String(t[2])), textfont: { color: cells.map(([, i, v]) => textOn(paint(v / total[i]))) }, hoverinfo: "skip" }];
  draw("confusion", [{ type: "heatmap", z: c.counts.map((row, i) => row.map(v => v / total[i])), hoverinfo: "text", zmin: 0, zmax: 1, colorscale: "Cividis", colorbar: { thickness: 12 },
    hovertext: c.counts.map((row, i) => row.map((v, j) => `true ${safe(c.classes[i])}, predicted ${safe(c.classes[j])}<br>${v} of ${total[i]} images`)) }, ...written],
    { height: Math.max(480, 90 + 15 * c.classes.length), xaxis: { ...ticks, title: { text: "predicted class" }, tickangle: c.classes.some(n => n.length > 3) ? -60 : 0 }, yaxis: { ...ticks, title: { text: "true class" }, autorange: "reversed" } });
  numbers("confusion-numbers", ["true \\ predicted", ...c.classes], c.counts.map((row, i) => [c.classes[i], ...row.map(String)]));
}
function histograms() {
  (D.histograms || []).forEach((h, layer) => {
    const width = h.edges[1] - h.edges[0], x = h.counts.map((_, i) => h.edges[i] + width / 2), total = h.counts.reduce((a, b) => a + b, 0) || 1;
    draw(`histogram-${layer}`, [{ type: "bar", x, y: h.counts.map(v => v / total), width, marker: { color: "#0072B2" }, text: h.counts.map((v, i) => `z from ${shown(h.edges[i], 2)} to ${shown(h.edges[i + 1], 2)}<br>${(100 * v / total).toFixed(2)} %`), textposition: "none", hoverinfo: "text" }],
      { height: 260, bargap: 0, xaxis: { title: { text: `pre-activation z of hidden layer ${layer}` } }, yaxis: { title: { text: "share" } } });
  });
}

// ---- all of it ------------------------------------------------------------------------------------------------------
function update() {
  refilter(); heatMap(); buildTicks(); drawCurves(); times(); gaps(); importance(); phase(); runTable();
}
function build() {
  buildFilters();
  buildSearch();
  buildHeatMap();
  const targets = Object.keys(D.times || {}).filter(t => D.times[t].some(v => v !== null)).sort((a, b) => a - b);
  choice.target = targets.filter(t => D.times[t].filter(v => v !== null).length >= N / 2).pop() || targets[0] || "0.5";
  if (byId("times-controls")) fill("times-controls", chooser("Accuracy to reach", (targets.length ? targets : ["0.5"]).map(t => [t, t]), choice.target, v => { choice.target = v; times(); }, "target"));
  choice.explained = "test/accuracy";
  if (byId("importance-controls")) fill("importance-controls", chooser("Variance of", Object.keys(D.importance).filter(k => D.importance[k].length).map(k => [k, k]), choice.explained, v => { choice.explained = v; importance(); }, "explained"));
  if (byId("phase")) {
    [choice.phaseX, choice.phaseY] = D.continuous;
    const list = D.continuous.map(n => [n, n]), of = axes.get("activation"); // limits differ: one activation at a time
    choice.phaseOf = of ? "0" : "";
    fill("phase-controls", chooser("Across", list, choice.phaseX, v => { choice.phaseX = v; phase(); }, "phase-x"), chooser("Up", list, choice.phaseY, v => { choice.phaseY = v; phase(); }, "phase-y"),
      ...(of ? [chooser("Activation", [...of.levels.map((level, code) => [String(code), level]), ["", "all together"]], "0", v => { choice.phaseOf = v; phase(); }, "phase-of")] : []));
  }
  if (byId("search")) byId("search").addEventListener("input", () => { order.page = 0; runTable(); });
  redraw();
  document.documentElement.dataset.ready = "true";
}
function redraw() { if (N) update(); drawSearch(); confusion(); histograms(); }
darkMode.addEventListener("change", redraw);
addEventListener("beforeprint", () => { forced = "light"; redraw(); });
addEventListener("afterprint", () => { forced = null; redraw(); });
build();
