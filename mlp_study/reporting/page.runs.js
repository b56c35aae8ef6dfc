"use strict";
// The table of all runs: sorted by accuracy first, searched by words.
const PAGE = 50;
const order = { column: "test/accuracy", down: true, page: 0 };

const levelOf = (axis, i) => axis.levels[axis.codes[RUNS.group[i]]];

function runColumns() {
  const link = i =>
    make("a", { href: RUNS.link[i], title: RUNS.folder[i] }, RUNS.id[i].slice(0, 8));
  const mark = name => (name ? `${D.mechanisms[name][0]} ${name}` : "");
  const outcome = i => make("span", { title: RUNS.cause[i] || "" }, RUNS.outcome[i]);
  const columns = [{ name: "run", value: i => RUNS.id[i], cell: link }];
  for (const [name, axis] of axes) {
    const number = i => axis.values && axis.values[RUNS.group[i]];
    const value = i => (axis.values ? number(i) : axis.codes[RUNS.group[i]]);
    columns.push({ name, value, cell: i => (axis.values ? shown(number(i)) : levelOf(axis, i)) });
  }
  columns.push(
    { name: "seed", value: i => RUNS.seed[i], cell: i => String(RUNS.seed[i] ?? "–") },
    { name: "outcome", value: i => RUNS.outcome[i], cell: outcome },
    {
      name: "mechanism",
      value: i => RUNS.mechanism[i] || "",
      cell: i => mark(RUNS.mechanism[i]),
    },
  );
  for (const [name, values] of Object.entries(RUNS.values)) {
    const digits = name === "epochs" ? 0 : 4;
    columns.push({
      name,
      number: true,
      value: i => values[i],
      cell: i => shown(values[i], digits),
    });
  }
  return columns;
}

function found(words) {
  const here = new Set(live);
  const line = i =>
    [
      RUNS.id[i],
      RUNS.outcome[i],
      RUNS.mechanism[i] || "",
      RUNS.cause[i] || "",
      ...[...axes].map(([name, axis]) => `${name}=${levelOf(axis, i)}`),
      `seed=${RUNS.seed[i]}`,
    ]
      .join(" ")
      .toLowerCase();
  return [...RUNS.id.keys()].filter(
    i => here.has(RUNS.group[i]) && words.every(word => line(i).includes(word)),
  );
}

function compared(value) {
  // Runs without a value come last, whichever way the column is sorted.
  const lost = v => v === null || v === undefined || v === "";
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (lost(x) || lost(y)) return lost(x) - lost(y);
    return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
  };
}

function heading(column) {
  const own = order.column === column.name;
  const sort = () => {
    order.down = own ? !order.down : true;
    order.column = column.name;
    order.page = 0;
    drawRuns();
    const heads = [...document.querySelectorAll("#runs-table th")];
    heads.find(head => head.dataset.name === column.name).firstChild.focus();
  };
  const arrow = own ? (order.down ? " ▼" : " ▲") : "";
  const sorted = own ? (order.down ? "descending" : "ascending") : "none";
  const button = make("button", { type: "button", onclick: sort }, column.name + arrow);
  return make("th", { scope: "col", "data-name": column.name, "aria-sort": sorted }, button);
}

function drawRuns() {
  const columns = runColumns();
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = found(words);
  const by = columns.find(column => column.name === order.column);
  if (by) rows.sort(compared(by.value));
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  order.page = Math.max(0, Math.min(order.page, pages - 1));
  const shownRows = rows.slice(order.page * PAGE, (order.page + 1) * PAGE);
  const cells = i =>
    columns.map(c => make("td", { class: c.number ? "number" : null }, c.cell(i)));
  const body = shownRows.map(i => make("tr", {}, ...cells(i)));
  const head = make("thead", {}, make("tr", {}, ...columns.map(heading)));
  fill("runs-table", make("table", {}, head, make("tbody", {}, ...body)));
  const turn = by => () => {
    order.page += by;
    drawRuns();
  };
  const at = `${rows.length} runs, page ${order.page + 1} of ${pages}`;
  const button = (text, by, disabled) =>
    make("button", { type: "button", disabled, onclick: turn(by) }, text);
  fill(
    "pager",
    button("Previous", -1, order.page === 0),
    make("span", { "aria-live": "polite" }, at),
    button("Next", 1, order.page >= pages - 1),
  );
}

function buildRuns() {
  if (!byId("search")) return;
  byId("search").addEventListener("input", () => {
    order.page = 0;
    drawRuns();
  });
}
