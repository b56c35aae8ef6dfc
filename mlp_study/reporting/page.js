"use strict";
// Draws the page from the JSON in #data: finished numbers of each combination ("group").
// Names come from configs: they reach the page as text nodes or through `safe`.
const D = JSON.parse(document.getElementById("data").textContent);
const RUNS = D.runs;
const GROUPS = D.groups;
const axes = new Map(D.axes.map(axis => [axis.name, axis]));
const choice = {}; // what the reader has chosen in each section

const byId = id => document.getElementById(id);
const finite = value => value !== null && value !== undefined && Number.isFinite(value);
// Plotly reads tags.
const safe = text =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const cut = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
const named = metric =>
  metric === "gap" ? "generalisation gap (training less test accuracy)" : metric;

function shown(value, digits = 4) {
  if (!finite(value)) return "–";
  const size = Math.abs(value);
  if (size < 1e-9) return (0).toFixed(digits);
  if (size < 1e-4 || size >= 1e5) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 1 : digits);
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

function fill(id, ...children) {
  const element = byId(id);
  if (element) element.replaceChildren(...children);
  return element;
}

function chooser(label, options, value, changed, id) {
  const entries = options.map(([v, text]) => make("option", { value: v }, text));
  const select = make("select", { id, onchange: () => changed(select.value) }, ...entries);
  select.value = value;
  return make("label", {}, label, select);
}

function numbers(id, columns, rows, most = 400) {
  // Every chart's numbers as a table, for those who do not see it.
  const box = byId(id);
  if (!box) return;
  const heads = columns.map(name => make("th", { scope: "col" }, name));
  const line = row =>
    row.map((value, i) =>
      i ? make("td", { class: "number" }, value) : make("th", { scope: "row" }, value),
    );
  const table = make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, ...rows.slice(0, most).map(row => make("tr", {}, ...line(row)))),
  );
  const about = { class: "scroll long", tabindex: 0, role: "region", "aria-label": "numbers" };
  const note = `The first ${most} of ${rows.length}; the CSV has all.`;
  box.replaceChildren(
    make("summary", {}, "The numbers as a table"),
    make("div", about, table),
    rows.length > most ? make("p", { class: "caption" }, note) : "",
  );
}

// ---- which combinations are shown ----
const allowed = new Map([...axes].map(([name, axis]) => [name, new Set(axis.levels.keys())]));
let live = [];

function refilter() {
  const limits = [...allowed].filter(([name, set]) => set.size < axes.get(name).levels.length);
  const ended = byId("by-outcome") ? byId("by-outcome").value : "";
  const endedSo = g => {
    const why = GROUPS.why[g].map(([name]) => name);
    return (
      !ended ||
      (ended === "ok" ? !why.length : ended === "bad" ? why.length : why.includes(ended))
    );
  };
  live = [...GROUPS.n.keys()].filter(
    g => limits.every(([name, set]) => set.has(axes.get(name).codes[g])) && endedSo(g),
  );
  const runs = live.reduce((count, g) => count + GROUPS.n[g], 0);
  if (byId("count")) byId("count").textContent = `${runs} of ${RUNS.id.length} runs shown`;
}

function levelTicks(name, axis) {
  return axis.levels.map((level, code) => {
    const tick = make("input", {
      type: "checkbox",
      "data-factor": name,
      "data-level": level,
      onchange: () => {
        allowed.get(name)[tick.checked ? "add" : "delete"](code);
        update();
      },
    });
    tick.checked = !(name === "data" && D.data && level !== D.data);
    if (!tick.checked) allowed.get(name).delete(code);
    return make("label", {}, tick, " " + level);
  });
}

function buildFilters() {
  const box = byId("filters");
  if (!box) return;
  const sets = [...axes].map(([name, axis]) =>
    make("fieldset", {}, make("legend", {}, name), ...levelTicks(name, axis)),
  );
  const why = Object.keys(D.mechanisms).filter(name => RUNS.mechanism.includes(name));
  const ends = [
    ["", "all"],
    ["ok", "no run fails"],
    ["bad", "a run fails"],
  ];
  const outcome = chooser(
    "How the runs of a combination ended",
    [...ends, ...why.map(name => [name, `a run fails: ${name}`])],
    "",
    update,
    "by-outcome",
  );
  const everything = () => {
    for (const tick of box.querySelectorAll("input")) tick.checked = true;
    for (const [name, axis] of axes) allowed.set(name, new Set(axis.levels.keys()));
    byId("by-outcome").value = "";
    update();
  };
  const all = make("button", { type: "button", onclick: everything }, "Show all");
  const count = make("strong", { id: "count", "aria-live": "polite" });
  box.replaceChildren(
    make("summary", {}, "Filter the runs in all sections: ", count),
    make("div", {}, ...sets),
    make("div", { class: "controls" }, outcome, all),
  );
}

// ---- sections: each is drawn when it is open ----
const DRAW = {
  overview: drawMap,
  curves: drawCurves,
  units: drawUnits,
  time: drawTimes,
  generalisation: drawGaps,
  phases: drawPhase,
  factors: drawImportance,
  runs: drawRuns,
  trials: drawSearch,
  pareto: drawFront,
  "confusion-matrix": drawConfusion,
  preactivations: drawHistograms,
};

function drawSection(id) {
  const section = byId(id);
  if (section && DRAW[id] && (section.tagName !== "DETAILS" || section.open)) DRAW[id]();
}

function update() {
  refilter();
  buildTicks();
  Object.keys(DRAW).forEach(drawSection);
}

function openTarget() {
  const target = location.hash && byId(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
}

function build() {
  buildFilters();
  for (const start of [
    buildMap,
    buildTimes,
    buildImportance,
    buildPhase,
    buildRuns,
    buildSearch,
  ]) {
    start();
  }
  for (const section of document.querySelectorAll("main > details.section")) {
    section.addEventListener("toggle", () => drawSection(section.id));
  }
  openTarget();
  addEventListener("hashchange", openTarget);
  update();
}

darkMode.addEventListener("change", update);
addEventListener("beforeprint", () => {
  for (const section of document.querySelectorAll("main > details.section")) section.open = true;
  forced = "light";
  update();
});
addEventListener("afterprint", () => {
  forced = null;
  update();
});
build();
plotting().then(() => {
  update();
  document.documentElement.dataset.ready = "true";
});
