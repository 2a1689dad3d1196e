// ---- tasks that are not binary: the tables and figures of the report, kind by kind -----------------------

const capital = (word) => word[0].toUpperCase() + word.slice(1);
const KIND_NOTE = "The filter of models and tasks does not apply here. Scores of different kinds are never averaged.";

function addKinds(before) {
  if (!frame("tasks").length) hideBinary();
  for (const one of block("kinds")) {
    const id = `kind-${one.kind}`;
    const heading = el("h2", { id: `${id}-title` }, `${capital(one.kind)} tasks`);
    const section = el("section", { id, "aria-labelledby": `${id}-title` }, heading, el("p", { class: "note" }, KIND_NOTE));
    before.before(section);
    document.querySelector('nav a[href="#costs"]').before(el("a", { href: `#${id}` }, capital(one.kind)), " ");
    one.tables.forEach((table) => addKindTable(section, table));
    section.append(el("div", { class: "figures" }, one.pictures.map(picture)));
  }
}

// A run without binary tasks has none of these.
function hideBinary() {
  for (const name of ["models", "tasks", "ranks", "probabilities"]) {
    byId(name).hidden = true;
    document.querySelector(`nav a[href="#${name}"]`).hidden = true;
  }
  byId("filters").hidden = true;
}

function addKindTable(parent, table) {
  const [title, ...rest] = table.caption.split(/(?<=[.:]) /);
  const cell = (row, i) => row.cells[i] ?? ["–", "", ""];
  const columns = table.columns.map((name, i) => ({
    key: `column-${i}`, title: name, number: true, value: (row) => numberIn(cell(row, i)[0]),
    cell: (row) => lines([cell(row, i)[0]], cell(row, i)[1] && [cell(row, i)[1], "small"]), mark: (row) => cell(row, i)[2],
  }));
  addTable(parent, {
    id: table.name.replace(/\s+/g, "-"), title, note: rest.join(" "), rows: () => table.rows,
    columns: () => [text("title", table.head), ...columns], csv: () => rowsOf(table.data),
  });
}

// The number that a printed cell begins with; none for a dash or a word.
function numberIn(printed) {
  const value = parseFloat(printed.replace("−", "-").replace(/,/g, ""));
  return Number.isNaN(value) ? null : value;
}

const picture = ([stem, caption, png]) => el("figure", {}, el("img", { src: `data:image/png;base64,${png}`, alt: caption, loading: "lazy" }),
  el("figcaption", {}, caption));
