// ---- the page -----------------------------------------------------------------------------------------

function buildFilters() {
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  const cohort = el("select", { id: "filter-cohort", onchange: (event) => setFilter({ dataset: event.target.value }) });
  const task = el("select", { id: "filter-task", onchange: (event) => setFilter({ task: event.target.value }) });
  const chips = el("fieldset", { class: "chips" }, el("legend", { class: "hidden" }, "Models to show"), models.map(chip));
  const reset = el("button", { type: "button", id: "filter-reset", onclick: () => setFilter({ dataset: "", task: "", hidden: new Set() }) }, "Show everything");
  form.append(el("label", { hidden: datasets.length < 2 }, "Cohort", cohort), el("label", {}, "Task", task), chips, reset);
  const draw = () => {
    fill(cohort, "All cohorts", datasets.map((dataset) => [dataset, cohortTitle(dataset)]), filter.dataset);
    fill(task, "All tasks", unique(tasksOf(filter.dataset)).map((name) => [name, name]), filter.task);
    chips.querySelectorAll(".chip").forEach((button) => button.setAttribute("aria-pressed", visible(button.dataset.model)));
    reset.disabled = !(filter.dataset || filter.task || filter.hidden.size);
  };
  onFilter(draw);
  draw();
}

function chip(model) {
  const button = el("button", { type: "button", class: "chip", "data-model": model, "aria-pressed": "true", onclick: () => toggleModel(model) }, titleOf(model));
  button.style.setProperty("--swatch", lookOf(model).colour === "#000000" ? "var(--ink)" : lookOf(model).colour);
  return button;
}

function fill(select, every, options, chosen) {
  select.replaceChildren(...[["", every], ...options].map(([value, label]) => el("option", { value, selected: value === chosen }, label)));
}

const redrawAll = () => figures.filter((figure) => figure.drawn).forEach(drawFigure);
const isDark = () => (document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function setTheme(scheme) {
  document.documentElement.style.colorScheme = scheme;
  byId("theme").setAttribute("aria-pressed", isDark());
  redrawAll();
}

// ---- paper: light, every chart drawn, as wide as the sheet ------------------------------------------------

let beforePaper = "";
let closed = [];

function toPaper() {
  if (printing) return;
  printing = true;
  beforePaper = document.documentElement.style.colorScheme;
  document.documentElement.style.colorScheme = "light";
  closed = [...document.querySelectorAll("details:not(.chart-data):not([open])")];
  closed.forEach((details) => (details.open = true));
  tables.forEach(drawTable);
  if (window.Plotly) figures.filter((figure) => !figure.node.hidden).forEach(drawFigure);
}

function toScreen() {
  printing = false;
  closed.forEach((details) => (details.open = false));
  tables.forEach(drawTable);
  setTheme(beforePaper);
}

function buildActions() {
  byId("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
  byId("theme").setAttribute("aria-pressed", isDark());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(document.documentElement.style.colorScheme));
  byId("print").addEventListener("click", () => loadPlotly().finally(() => window.print()));
  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", toScreen);
  let waiting;
  let width = innerWidth;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { // a phone's address bar changes the height only
      if (innerWidth !== width && !printing) redrawAll();
      width = innerWidth;
    }, 150);
  });
}

function build() {
  const section = (name, ...adders) => adders.forEach((add) => add(byId(name)));
  buildFilters();
  addClaims(byId("claims"));
  section("models", addMainTable, addBox);
  section("tasks", addRadars, addTaskTable, addMetricTable);
  section("ranks", addAgainstTable, addPairTable, addRanks);
  section("probabilities", addRoc);
  addKinds(byId("costs"));
  section("costs", addCostTable, ...(frame("cohorts").length ? [addPareto] : []));
  section("curves", addCurves);
  section("gaps", addGapTables);
  buildActions();
  document.querySelectorAll(".scroll").forEach(watchWidth);
  // A reader who prints without scrolling still wants charts: have the script ready when the page has nothing else to do.
  addEventListener("load", () => setTimeout(() => loadPlotly().catch(() => {}), 1500));
}

build();
