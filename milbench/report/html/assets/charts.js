// ---- radar, one a cohort ------------------------------------------------------------------------------

const signalTasks = (dataset) => frame("tasks").filter((row) => row.dataset === dataset && !row.is_control).map((row) => row.task);

// Area of the polygon through the AUROCs, as a fraction of the one through 1 everywhere.
const polygonArea = (values) => values.reduce((sum, value, i) => sum + value * values[(i + 1) % values.length], 0) / values.length;

function taskMeans(dataset, tasks) {
  const cells = new Map(frame("cells").filter((row) => row.dataset === dataset).map((row) => [row.task + "\n" + row.model, row]));
  const whole = (model) => tasks.every((task) => defined(cells.get(task + "\n" + model)?.auroc) && !cells.get(task + "\n" + model).n_missing);
  const known = models.filter((model) => [...cells.values()].some((row) => row.model === model));
  return known.map((model) => ({ model, whole: whole(model), values: tasks.map((task) => cells.get(task + "\n" + model)?.auroc ?? null) }));
}

// A task that no model can score would keep every polygon from closing.
function scorableTasks(dataset) {
  const scored = new Set(frame("cells").filter((row) => row.dataset === dataset && defined(row.auroc)).map((row) => row.task));
  return signalTasks(dataset).filter((task) => scored.has(task));
}

const RADAR_NOTE = "One polygon per model. Press a model in a legend, or in the filter above, to hide it. A polygon's area depends on the order of the tasks: a reading aid, not a metric. Control tasks are left out.";

function addRadars(parent) {
  const grid = el("div", { class: "figures" });
  parent.append(el("p", {}, RADAR_NOTE), grid);
  datasets.forEach((dataset, i) => addFigure(grid, {
    id: `radar-${i}`, title: `${cohortTitle(dataset)}: mean test AUROC by task`, height: 400, shown: () => !filter.dataset || filter.dataset === dataset,
    draw: (_, size) => drawRadar(dataset, size),
  }));
}

function drawRadar(dataset, size) {
  const tasks = scorableTasks(dataset);
  const all = taskMeans(dataset, tasks);
  if (!tasks.length || !all.length) return { empty: "No task of this cohort has a defined AUROC." };
  const rows = all.map(({ model, values }) => Object.fromEntries([["model", titleOf(model)], ...tasks.map((task, i) => [task, values[i]])]));
  if (tasks.length < 3) return { ...drawDots(tasks, all, size), rows };
  const drawn = [...all].sort((a, b) => highlighted(a.model) - highlighted(b.model));
  const alt = `Radar chart of ${cohortTitle(dataset)} over ${counted(tasks.length, "task")}. ` + drawn.map((row) => `${titleOf(row.model)}: ${areaText(row)}`).join("; ");
  return { traces: drawn.map((row) => radarTrace(row, tasks)), layout: radarLayout(tasks, all, size), alt, rows };
}

const areaText = ({ whole, values }) => (whole ? `area ${fixed(polygonArea(values))}` : "incomplete, not drawn");

function radarTrace(row, tasks) {
  const name = `${legendName(row.model)}  ${row.whole ? fixed(polygonArea(row.values)) : "incomplete"}`;
  const values = row.whole ? row.values : [];
  const spokes = tasks.map((_, i) => (i * 360) / tasks.length);
  return {
    type: "scatterpolar", mode: "lines+markers", name, r: values.concat(values.slice(0, 1)), theta: spokes.concat(spokes.slice(0, 1)), visible: shownIn(row.model),
    line: line(row.model), marker: marker(row.model, { size: highlighted(row.model) ? 7 : 5 }), hoverinfo: "text",
    text: tasks.concat(tasks.slice(0, 1)).map((task, i) => `${safe(titleOf(row.model))}<br>${safe(task)}: ${fixed(values[i % tasks.length])}`),
  };
}

function radarLayout(tasks, all, { narrow }) {
  const lowest = Math.min(...all.flatMap((row) => row.values.filter(defined)));
  const every = Math.ceil(tasks.length / 30); // more names than that run into each other
  const named = tasks.map((task, i) => (i % every ? "" : shortened(task, narrow ? 10 : 14)));
  return {
    polar: {
      bgcolor: "rgba(0,0,0,0)", domain: narrow ? { x: [0.08, 0.92], y: [0.12, 1] } : { x: [0, 0.6], y: [0, 1] },
      radialaxis: { range: [Math.min(0.4, Math.floor(lowest * 10) / 10), 1], gridcolor: ink("line"), linecolor: ink("line"), tickfont: { size: 10, color: ink("muted") }, angle: 90 - 180 / tasks.length, tickangle: 90 - 180 / tasks.length, dtick: 0.1 },
      angularaxis: { tickmode: "array", tickvals: tasks.map((_, i) => (i * 360) / tasks.length), ticktext: named.map(safe), rotation: 90, direction: "clockwise", gridcolor: ink("line"), linecolor: ink("line") },
    },
    margin: { l: narrow ? 45 : 60, r: narrow ? 45 : 10, t: 30, b: 20 }, height: narrow ? 340 + 17 * all.length : Math.max(400, 60 + 19 * all.length), legend: narrow ? legendBelow : { x: 0.8, y: 0.5, yanchor: "middle", title: { text: "model, area" } },
  };
}

// One or two spokes make no polygon.
function drawDots(tasks, all, { narrow }) {
  const traces = all.map(({ model, values }) => ({
    type: "scatter", mode: "markers", name: legendName(model), x: values, y: tasks.map((_, i) => i), marker: marker(model, { size: 11 }), visible: shownIn(model),
  }));
  const alt = `Dot plot of ${tasks.join(", ")}. ` + all.map(({ model, values }) => `${titleOf(model)}: ${values.map((value) => fixed(value)).join(", ")}`).join("; ");
  return { traces, alt, layout: { xaxis: axis("mean test AUROC"), yaxis: axis("", places(tasks)), showlegend: true, legend: narrow ? legendBelow : {} } };
}

// ---- box plot -----------------------------------------------------------------------------------------

function addBox(parent) {
  addFigure(parent, {
    id: "box", title: "Test AUROC by model", note: ofBags("One dot per trained (task, fold, seed), slides; control tasks left out. Box: quartiles. The spread is of tasks and trainings, not an interval."),
    height: Math.max(260, 110 + 46 * models.length), draw: drawBox,
  });
}

function drawBox() {
  const rows = frame("scores").filter((row) => row.level === "slide" && !row.is_control && defined(row.auroc) && passes(row));
  if (!rows.length) return { empty: "No score passes the filter." };
  const groups = groupBy(rows, (row) => row.model);
  const shown = shownModels().filter((model) => groups.has(model)).reverse(); // the first stands on top
  const few = rows.length / shown.length <= 150;
  const traces = shown.map((model, i) => ({
    type: "box", orientation: "h", y0: i, name: safe(titleOf(model)), x: groups.get(model).map((row) => row.auroc), hoverinfo: "x", fillcolor: "rgba(128,128,128,0.12)",
    line: { color: ink("ink"), width: 1.2 }, marker: { color: styleOf(model).color, size: 4, opacity: 0.75 }, boxpoints: few ? "all" : "outliers", showwhiskers: false, jitter: 0.5, pointpos: 0,
  }));
  const summary = [...shown].reverse().map((model) => ({ model: titleOf(model), ...quartiles(groups.get(model).map((row) => row.auroc)) }));
  const layout = { showlegend: false, xaxis: axis("test AUROC"), yaxis: axis("", places(shown.map(titleOf))), shapes: [{ type: "line", x0: 0.5, x1: 0.5, y0: 0, y1: 1, yref: "paper", line: { dash: "dash", width: 1, color: ink("muted") } }] };
  return { traces, layout, rows: summary, alt: `Box plot. Median AUROC: ${summary.map((row) => `${row.model} ${fixed(row.median)}`).join("; ")}` };
}

function quartiles(values) {
  const ordered = [...values].sort((a, b) => a - b);
  const at = (share) => {
    const place = share * (ordered.length - 1);
    const low = Math.floor(place);
    return ordered[low] + (place - low) * ((ordered[low + 1] ?? ordered[low]) - ordered[low]);
  };
  return { minimum: at(0), "lower quartile": at(0.25), median: at(0.5), "upper quartile": at(0.75), maximum: at(1), scores: values.length };
}
