// ---- the data, and what of it the reader wants to see ---------------------------------------------

const parsed = {};

// Curves and ROC scores are most of the bytes and are parsed when a chart first asks.
function block(name) {
  parsed[name] ??= JSON.parse(byId(`data-${name}`).textContent);
  return parsed[name];
}

function rowsOf(frame) {
  const names = Object.keys(frame);
  const length = names.length ? frame[names[0]].length : 0;
  return Array.from({ length }, (_, i) => Object.fromEntries(names.map((name) => [name, frame[name][i]])));
}

const core = block("core");
const frames = {};

function frame(name) {
  frames[name] ??= rowsOf(core[name]);
  return frames[name];
}

const unique = (values) => [...new Set(values)];
const mean = (values) => {
  const known = values.filter(defined);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
};

function groupBy(rows, key) {
  const groups = new Map();
  for (const row of rows) {
    const name = key(row);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return groups;
}

const models = unique(frame("cohorts").concat(frame("cells")).map((row) => row.model));
const titles = Object.fromEntries(frame("costs").concat(frame("cells"), frame("cohorts")).map((row) => [row.model, row.title]));
const datasets = unique(frame("tasks").map((row) => row.dataset));
const titleOf = (model) => titles[model] ?? model;
const cohortTitle = (dataset) => core.cohort_titles[dataset] ?? dataset;
// What was written of slides, for cohorts whose bags are patients.
const ofBags = (text) => text.replace(/\bslide(s?)\b/g, `${core.bag}$1`);
const taskRow = new Map(frame("tasks").map((row) => [row.dataset + "\n" + row.task, row]));
const factsOf = (dataset, task) => taskRow.get(dataset + "\n" + task) ?? {};
const tasksOf = (dataset) => frame("tasks").filter((row) => !dataset || row.dataset === dataset).map((row) => row.task);

// ---- looks: of every model by its name, from the one table that figures use too --------------------------

const lookOf = (model) => core.looks[model];
const highlighted = (model) => lookOf(model).highlighted;

// Black is for paper: on a dark screen it takes the colour of the text.
function styleOf(model) {
  const { colour, dash, symbol } = lookOf(model);
  return { color: colour === "#000000" ? ink("ink") : colour, dash, symbol, width: highlighted(model) ? 3.5 : 1.8 };
}

// A colour of the style sheet as the charts need it: resolved for the theme that is on.
const probe = el("span", { class: "hidden", "aria-hidden": "true" });
document.body.append(probe);
function ink(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

// ---- the filter -----------------------------------------------------------------------------------

const filter = { dataset: "", task: "", hidden: new Set() };
const listeners = [];
const onFilter = (listener) => listeners.push(listener);
const visible = (model) => !filter.hidden.has(model);
const shownModels = () => models.filter(visible);
const shownDatasets = () => datasets.filter((dataset) => !filter.dataset || dataset === filter.dataset);

function passes(row) {
  return (!filter.dataset || row.dataset === filter.dataset || row.dataset === undefined)
    && (!filter.task || row.task === filter.task || row.task === undefined)
    && (row.model === undefined || visible(row.model));
}

function setFilter(change) {
  Object.assign(filter, change);
  if (filter.task && !tasksOf(filter.dataset).includes(filter.task)) filter.task = "";
  listeners.forEach((listener) => listener());
}

function toggleModel(model) {
  filter.hidden[filter.hidden.has(model) ? "delete" : "add"](model);
  setFilter({});
}
