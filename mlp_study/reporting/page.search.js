"use strict";
// A search's charts and its table of trials.
const trials = () => [...D.search.number.keys()];
const trialsWith = k => trials().filter(i => finite(D.search.values[k][i]));
const given = value => value !== null && value !== undefined;

function trialText(i) {
  const s = D.search;
  const values = s.objectives.map((o, k) => `${safe(o.name)} ${shown(s.values[k][i])}`);
  const said = v => safe(typeof v === "number" ? shown(v) : v);
  const params = s.parameters
    .map((p, j) => [p.name, s.params[j][i]])
    .filter(([, v]) => given(v))
    .map(([name, v]) => `${safe(name)} ${said(v)}`);
  return [`trial ${s.number[i]}, ${s.state[i]}`, ...values, ...params].join("<br>");
}

function trialPoints(rows, x, y, name, marker) {
  const text = rows.map(trialText);
  return {
    x: rows.map(x),
    y: rows.map(y),
    name,
    mode: "markers",
    marker,
    text,
    hoverinfo: "text",
  };
}

function drawHistory(k) {
  const s = D.search;
  const there = trialsWith(k);
  const done = there.filter(i => s.state[i] === "complete");
  const cutOff = there.filter(i => s.state[i] !== "complete");
  const number = i => s.number[i];
  const value = i => s.values[k][i];
  const traces = [];
  if (done.length) {
    const line = { shape: "hv", color: COLOURS[3], width: 2 };
    const best = {
      x: done.map(number),
      y: done.map(i => s.best_so_far[k][i]),
      mode: "lines",
      line,
    };
    traces.push({ ...best, name: "best so far", hoverinfo: "skip" });
    const marker = { symbol: "diamond", size: 8, color: COLOURS[0] };
    traces.push(trialPoints(done, number, value, "complete", marker));
  }
  if (cutOff.length) {
    const marker = { symbol: "x", size: 8, color: grey() };
    traces.push(trialPoints(cutOff, number, value, "pruned: its last value", marker));
  }
  draw("history", traces, {
    showlegend: true,
    xaxis: { ...titled("trial"), tickformat: "d" },
    yaxis: titled(safe(s.objectives[k].name)),
  });
}

function parameterAxis(parameter, values) {
  if (parameter.choices) {
    const range = [-0.5, parameter.choices.length - 0.5];
    return { type: "category", categoryorder: "array", categoryarray: parameter.choices, range };
  }
  return parameter.log ? logAxis(values, 5) : {};
}

function drawSlices(k) {
  const s = D.search;
  const box = byId("slices");
  if (box.children.length !== s.parameters.length) {
    const panel = (p, j) =>
      make("div", {}, make("h3", {}, p.name), make("div", { id: `slice-${j}`, class: "chart" }));
    box.replaceChildren(...s.parameters.map(panel));
  }
  s.parameters.forEach((parameter, j) => {
    const there = trialsWith(k).filter(i => given(s.params[j][i]));
    const marker = {
      size: 8,
      symbol: there.map(i => (s.state[i] === "complete" ? "circle" : "x")),
      color: there.map(i => s.number[i]),
      colorscale: "Cividis",
      cmin: 0,
      cmax: Math.max(...s.number),
      line: { width: 0.8, color: grey() },
    };
    const points = trialPoints(
      there,
      i => s.params[j][i],
      i => s.values[k][i],
      "",
      marker,
    );
    const xaxis = { ...parameterAxis(parameter, points.x), ...titled("") };
    const yaxis = titled(safe(s.objectives[k].name));
    draw(`slice-${j}`, there.length ? [points] : [], { height: 270, xaxis, yaxis });
  });
}

function drawFront() {
  const s = D.search;
  const [a, b] = [Number(choice.frontX), Number(choice.frontY)];
  const there = trialsWith(a).filter(i => finite(s.values[b][i]) && s.state[i] === "complete");
  const best = there.filter(i => s.best[i]).sort((i, j) => s.values[a][i] - s.values[a][j]);
  const rest = there.filter(i => !s.best[i]);
  const x = i => s.values[a][i];
  const y = i => s.values[b][i];
  const front = trialPoints(best, x, y, "on the front", {
    size: 10,
    symbol: "diamond",
    color: COLOURS[3],
  });
  if (s.objectives.length === 2) front.mode = "lines+markers";
  front.line = { color: COLOURS[3], dash: "dot" };
  const wide = k => {
    const values = there.map(i => s.values[k][i]);
    const low = Math.min(...values);
    return low > 0 && Math.max(...values) > 30 * low ? logAxis(values) : {};
  };
  draw("front", [trialPoints(rest, x, y, "other trials", { size: 7, color: grey() }), front], {
    showlegend: true,
    xaxis: { ...wide(a), ...titled(safe(s.objectives[a].name)) },
    yaxis: { ...wide(b), ...titled(safe(s.objectives[b].name)) },
  });
}

function drawSearch() {
  const s = D.search;
  const k = Number(choice.objective);
  const shares = s.importance[s.objectives[k].name] || [];
  drawHistory(k);
  bars(
    "parameter-importance",
    shares.map(([name, share]) => [name, share, COLOURS[0]]),
    "share of the variance",
  );
  drawSlices(k);
  const said = v => (!given(v) ? "–" : typeof v === "number" ? shown(v) : v);
  const row = i => {
    const name = `trial ${s.number[i]}`;
    return [
      s.link[i] ? make("a", { href: s.link[i] }, name) : name,
      s.state[i] + (s.best[i] ? ", best" : ""),
      ...[...s.values, ...s.params].map(column => said(column[i])),
    ];
  };
  const names = [...s.objectives, ...s.parameters].map(part => part.name);
  numbers("trial-numbers", ["trial", "state", ...names], trials().map(row), 1000);
}

function buildSearch() {
  if (!D.search) return;
  const said = o => `${o.name} (${o.more ? "more" : "less"} is better)`;
  const list = D.search.objectives.map((o, k) => [String(k), said(o)]);
  const again = (name, section) => value => {
    choice[name] = value;
    drawSection(section);
  };
  Object.assign(choice, { objective: "0", frontX: "0", frontY: "1" });
  if (list.length > 1) {
    fill(
      "search-controls",
      chooser("Objective", list, "0", again("objective", "trials"), "objective"),
    );
  }
  if (list.length > 2) {
    fill(
      "front-controls",
      chooser("Across", list, "0", again("frontX", "pareto"), "front-x"),
      chooser("Up", list, "1", again("frontY", "pareto"), "front-y"),
    );
  }
}
