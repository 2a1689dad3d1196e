// ---- a table that sorts, filters and saves itself ---------------------------------------------------
// spec: id, title, note, rows() -> all rows that pass the filter, columns(rows) -> [{key, title, number,
// value(row) to sort by, cell(row) -> text or nodes, mark(row) -> class}], sort [key, direction], csv() -> rows,
// foot() -> rows of texts. The first column heads the row.

const ROWS_AT_FIRST = 20;
const ROWS_ON_PAPER = 120;
const tables = [];

function addTable(parent, spec) {
  const table = { spec, sort: spec.sort ?? null, all: false };
  const name = `${spec.id}-caption`;
  table.head = el("thead");
  table.body = el("tbody");
  table.foot = el("tfoot");
  table.count = el("span", { class: "count" });
  table.more = el("button", { type: "button", onclick: () => showAll(table) });
  const caption = el("caption", { id: name }, el("span", { class: "caption-text" }, el("strong", {}, spec.title), spec.note ? ` ${spec.note}` : ""));
  const bar = el("div", { class: "bar" }, saveButton(spec), table.more, table.count);
  const region = el("div", { class: "scroll", role: "region", tabindex: "0", "aria-labelledby": name },
    el("table", { id: spec.id }, caption, table.head, table.body, table.foot));
  parent.append(el("div", { class: "block" }, region, bar));
  tables.push(table);
  onFilter(() => drawTable(table));
  drawTable(table);
}

function saveButton(spec) {
  const csv = () => saveCsv(spec.id, (spec.csv ?? spec.rows)());
  return el("button", { type: "button", onclick: csv, "aria-label": `Save as CSV: ${spec.title}` }, "Save as CSV");
}

function showAll(table) {
  table.all = !table.all;
  drawTable(table);
}

function drawTable(table) {
  const rows = table.spec.rows();
  const columns = table.spec.columns(rows);
  const shown = sorted(rows, columns, table.sort);
  const limit = table.all ? shown.length : printing ? ROWS_ON_PAPER : ROWS_AT_FIRST;
  table.head.replaceChildren(el("tr", {}, columns.map((column) => headCell(table, column))));
  table.body.replaceChildren(...shown.slice(0, limit).map((row) => bodyRow(columns, row)));
  table.foot.replaceChildren(...(table.spec.foot?.(columns) ?? []));
  if (!rows.length) table.body.append(el("tr", {}, el("td", { colspan: columns.length || 1 }, table.spec.empty ?? "No rows pass the filter.")));
  table.more.hidden = rows.length <= ROWS_AT_FIRST;
  table.more.textContent = table.all ? "Show fewer rows" : `Show all ${rows.length} rows`;
  table.count.textContent = limit < rows.length ? `first ${limit} of ${counted(rows.length, "row")}` : counted(rows.length, "row");
}

function headCell(table, column) {
  const direction = table.sort?.[0] === column.key ? table.sort[1] : "none";
  const button = el("button", { type: "button", title: column.help ?? column.title, onclick: () => sortBy(table, column) }, column.title);
  return el("th", { scope: "col", "aria-sort": direction, class: column.number ? "number" : "" }, button);
}

function bodyRow(columns, row) {
  return el("tr", {}, columns.map((column, i) => {
    const tag = i === 0 ? "th" : "td";
    const kind = `${column.number ? "number" : ""} ${column.mark?.(row) ?? ""}`.trim();
    return el(tag, { scope: i === 0 ? "row" : null, class: kind || null }, (column.cell ?? column.value)(row) ?? "–");
  }));
}

// Numbers start with the largest, names with A; a second press turns the order round.
function sortBy(table, column) {
  const first = column.number ? "descending" : "ascending";
  const turned = { ascending: "descending", descending: "ascending" };
  table.sort = [column.key, table.sort?.[0] === column.key ? turned[table.sort[1]] : first];
  const focused = [...table.head.querySelectorAll("button")].indexOf(document.activeElement);
  drawTable(table);
  if (focused >= 0) table.head.querySelectorAll("button")[focused].focus();
  announce(`${table.spec.title}: sorted by ${column.title}, ${table.sort[1]}`);
}

function sorted(rows, columns, sort) {
  const column = sort && columns.find((candidate) => candidate.key === sort[0]);
  if (!column) return rows;
  const sign = sort[1] === "descending" ? -1 : 1;
  return [...rows].sort((a, b) => compare(column.value(a), column.value(b), sign));
}

// What is undefined stands last in either direction.
function compare(a, b, sign) {
  if (!defined(a) || !defined(b)) return defined(b) - defined(a);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

// A table that is wider than its place says so, since not every browser shows a bar to scroll with.
function watchWidth(region) {
  const sign = el("p", { class: "more-columns", "aria-hidden": "true", hidden: true }, "More columns to the right: scroll sideways →");
  region.after(sign);
  const look = () => {
    const cut = region.scrollWidth - region.clientWidth - region.scrollLeft > 2;
    region.classList.toggle("cut", cut);
    sign.hidden = !cut;
  };
  region.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(region);
  new ResizeObserver(look).observe(region.firstElementChild);
}

// ---- columns ----------------------------------------------------------------------------------------

const text = (key, title, value = (row) => row[key]) => ({ key, title, value });
const number = (key, title, show = fixed, help) => ({
  key, title, help, number: true, value: (row) => row[key], cell: (row) => show(row[key]),
});
const cohortColumn = datasets.length > 1 ? [{ ...text("dataset", "Cohort", (row) => cohortTitle(row.dataset)), mark: () => "name" }] : [];
const modelColumn = text("model", "Model", (row) => titleOf(row.model));
const taskColumn = { key: "task", title: "Task", value: (row) => row.task,
  cell: (row) => (factsOf(row.dataset, row.task).is_control ? `${row.task} (control)` : row.task) };

// "best" for the highest value as printed, "second" for the next; ties share.
function medal(values, value) {
  const places = unique(values.filter(defined).map((v) => v.toFixed(3))).sort().reverse();
  if (!defined(value) || places.length < 2) return "";
  return ["best", "second"][places.indexOf(value.toFixed(3))] ?? "";
}
