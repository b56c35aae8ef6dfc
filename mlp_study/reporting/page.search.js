"use strict";
// A search's charts and its table of trials, from D.search; page.js draws.
function objectives() { return D.search.objectives.map((objective, k) => [String(k), `${objective.name} (${objective.more ? "more" : "less"} is better)`]); }
function trialText(i) {
  const s = D.search, values = s.objectives.map((o, k) => `${safe(o.name)} ${shown(s.values[k][i])}`);
  return [`trial ${s.number[i]}, ${s.state[i]}`, ...values, ...s.parameters.map((p, j) => [p.name, s.params[j][i]]).filter(([, v]) => v !== undefined && v !== null).map(([name, v]) => `${safe(name)} ${safe(typeof v === "number" ? shown(v) : v)}`)].join("<br>");
}
const trialsWith = k => [...D.search.number.keys()].filter(i => finite(D.search.values[k][i]));
function drawHistory(k) {
  const s = D.search, o = s.objectives[k], there = trialsWith(k), done = there.filter(i => s.state[i] === "complete"), cut = there.filter(i => s.state[i] !== "complete");
  const best = done.map((_, n) => done.slice(0, n + 1).map(i => s.values[k][i]).reduce((a, b) => (o.more ? Math.max(a, b) : Math.min(a, b))));
  const points = (chosen, name, symbol, c) => ({ x: chosen.map(i => s.number[i]), y: chosen.map(i => s.values[k][i]), name, mode: "markers", marker: { symbol, size: 8, color: c }, text: chosen.map(trialText), hoverinfo: "text" });
  const traces = done.length ? [{ x: done.map(i => s.number[i]), y: best, name: "best so far", mode: "lines", line: { shape: "hv", color: COLOURS[3], width: 2 }, hoverinfo: "skip" }, points(done, "complete", "diamond", COLOURS[0])] : [];
  if (cut.length) traces.push(points(cut, "pruned: its last value", "x", dark() ? "#b4b4b4" : "#777777"));
  draw("history", traces, { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, margin: { l: 56, r: 24, t: 36, b: 48 }, xaxis: { title: { text: "trial" }, tickformat: "d" }, yaxis: { title: { text: safe(o.name) } } });
}
function drawSlices(k) {
  const s = D.search, box = byId("slices");
  if (box.children.length !== s.parameters.length) box.replaceChildren(...s.parameters.map((p, j) => make("div", {}, make("h3", {}, p.name), make("div", { id: `slice-${j}`, class: "chart" }))));
  s.parameters.forEach((p, j) => {
    const there = trialsWith(k).filter(i => s.params[j][i] !== undefined && s.params[j][i] !== null);
    const x = p.choices ? { type: "category", categoryorder: "array", categoryarray: p.choices, range: [-0.5, p.choices.length - 0.5] } : p.log ? logAxis(there.map(i => s.params[j][i]), 5) : {};
    draw(`slice-${j}`, there.length ? [{ x: there.map(i => s.params[j][i]), y: there.map(i => s.values[k][i]), mode: "markers", marker: { size: 8, symbol: there.map(i => s.state[i] === "complete" ? "circle" : "x"), color: there.map(i => s.number[i]), colorscale: "Cividis", cmin: 0, cmax: Math.max(...s.number), line: { width: 0.8, color: dark() ? "#b4b4b4" : "#777777" } }, text: there.map(trialText), hoverinfo: "text" }] : [],
      { height: 270, xaxis: { ...x, title: { text: "" } }, yaxis: { title: { text: safe(s.objectives[k].name) } } });
  });
}
function drawFront(a, b) {
  const s = D.search;
  if (s.objectives.length < 2 || !byId("front")) return;
  const there = trialsWith(a).filter(i => finite(s.values[b][i]) && s.state[i] === "complete"), best = there.filter(i => s.best[i]), rest = there.filter(i => !s.best[i]);
  best.sort((i, j) => s.values[a][i] - s.values[a][j]);
  const points = (chosen, more) => ({ x: chosen.map(i => s.values[a][i]), y: chosen.map(i => s.values[b][i]), text: chosen.map(trialText), hoverinfo: "text", ...more });
  const wide = k => { const v = there.map(i => s.values[k][i]), low = Math.min(...v); return low > 0 && Math.max(...v) > 30 * low ? logAxis(v) : {}; };
  draw("front", [points(rest, { name: "other trials", mode: "markers", marker: { size: 7, color: dark() ? "#b4b4b4" : "#777777" } }), points(best, { name: "on the front", mode: s.objectives.length === 2 ? "lines+markers" : "markers", line: { color: COLOURS[3], dash: "dot" }, marker: { size: 10, symbol: "diamond", color: COLOURS[3] } })],
    { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, margin: { l: 56, r: 24, t: 36, b: 48 }, xaxis: { ...wide(a), title: { text: safe(s.objectives[a].name) } }, yaxis: { ...wide(b), title: { text: safe(s.objectives[b].name) } } });
}
function drawSearch() {
  const s = D.search;
  if (!s || !byId("history")) return;
  const k = Number(choice.objective), shares = s.importance[s.objectives[k].name] || [];
  drawHistory(k);
  bars("parameter-importance", shares.map(([name, share]) => [name, share, COLOURS[0]]), "share of the variance");
  drawSlices(k);
  drawFront(Number(choice.frontX), Number(choice.frontY));
  const parts = [...s.objectives.map(o => o.name), ...s.parameters.map(p => p.name)];
  const value = v => v === undefined || v === null ? "–" : typeof v === "number" ? shown(v) : v;
  const rows = [...s.number.keys()].map(i => [s.link[i] ? make("a", { href: s.link[i] }, `trial ${s.number[i]}`) : `trial ${s.number[i]}`, s.state[i] + (s.best[i] ? ", best" : ""), ...s.values.map(v => value(v[i])), ...s.params.map(v => value(v[i]))]);
  numbers("trial-numbers", ["trial", "state", ...parts], rows, 1000);
}
function buildSearch() {
  if (!D.search || !byId("history")) return;
  const list = objectives(), again = name => v => { choice[name] = v; drawSearch(); };
  Object.assign(choice, { objective: "0", frontX: "0", frontY: "1" });
  if (list.length > 1) fill("search-controls", chooser("Objective", list, "0", again("objective"), "objective"));
  if (list.length > 2) fill("front-controls", chooser("Across", list, "0", again("frontX"), "front-x"), chooser("Up", list, "1", again("frontY"), "front-y"));
}
