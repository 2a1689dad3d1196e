// ---- elements and text ---------------------------------------------------------------------------
// Names come from users: they reach the page through `textContent` only, and charts through `safe`.

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

const byId = (id) => document.getElementById(id);
const defined = (value) => value !== null && value !== undefined;

// Plotly reads a little HTML in its texts.
const safe = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const minus = (text) => text.replace(/-/g, "−");
const fixed = (value, digits = 3) => (defined(value) ? minus(value.toFixed(digits).replace(/^-(0\.0*)$/, "$1")) : "–");
const signed = (value, digits = 3) => (defined(value) && value > 0 ? "+" : "") + fixed(value, digits);
const pValue = (p) => (!defined(p) ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const interval = (low, high, digits = 3) => (defined(low) && defined(high) ? `[${fixed(low, digits)}, ${fixed(high, digits)}]` : "");
const counted = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// 1234567 -> "1.23 M": three digits tell costs apart.
function compact(value) {
  if (!defined(value)) return "–";
  const units = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]];
  const [size, unit] = units.find(([bound]) => Math.abs(value) >= bound) || [1, ""];
  return minus(String(Number((value / size).toPrecision(3)))) + unit;
}

// 0.0000097 -> "9.7 µs": the unit in which a number reads well.
function inUnits(value, units) {
  if (!defined(value)) return "–";
  const [size, unit] = units.find(([bound, , least]) => Math.abs(value) >= (least ?? bound)) ?? units.at(-1);
  return `${minus(String(Number((value / size).toPrecision(3))))} ${unit}`;
}

const duration = (value) => inUnits(value, [[3600, "h", 7200], [60, "min", 120], [1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]]);
const bytes = (value) => inUnits(value, [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]]);
const joules = (value) => inUnits(value, [[1e6, "MJ"], [1e3, "kJ"], [1, "J"], [1e-3, "mJ"]]);

function lines(...parts) {
  return parts.filter(Boolean).map(([text, kind]) => el("span", { class: `cell-line ${kind || ""}` }, text));
}

function announce(text) {
  byId("status").textContent = text;
}

// ---- files, made here and saved by the browser: nothing leaves the page ---------------------------

const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replace(/"/g, '""')}"` : value);

// As `guarded` in milbench/store/csv_files.py: a spreadsheet takes no text for a formula, and the name can be told.
const isFormula = (text) => /^\s*[=+\-@＝＋－＠]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text);
const guarded = (text) => (isFormula(text) || text.startsWith("'") ? `'${text.replace(/\\/g, "\\\\")}` : text);
const csvCell = (value) => quoted(typeof value === "number" ? String(value) : guarded(String(value)));

function toCsv(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const line = (row) => names.map((name) => (defined(row[name]) ? csvCell(row[name]) : "")).join(",");
  return [names.map(csvCell).join(","), ...rows.map(line)].join("\n") + "\n";
}

function saveCsv(name, rows) {
  const address = URL.createObjectURL(new Blob([toCsv(rows)], { type: "text/csv" }));
  const link = el("a", { href: address, download: `${name}.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
