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

const RADAR_NOTE = "One polygon a model. Press a model in a legend, or in the filter above, to hide it. A polygon's area depends on the order of the tasks: a reading aid, not a metric. Control tasks are left out.";

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
  const drawn = [...all].sort((a, b) => (a.model === EMPHASISED) - (b.model === EMPHASISED));
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
    line: line(row.model), marker: marker(row.model, { size: row.model === EMPHASISED ? 7 : 5 }), hoverinfo: "text",
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
    margin: { l: narrow ? 45 : 60, r: narrow ? 45 : 10, t: 30, b: 20 }, height: narrow ? 340 + 17 * all.length : 400, legend: narrow ? legendBelow : { x: 0.8, y: 0.5, yanchor: "middle", title: { text: "model, area" } },
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
    id: "box", title: "Test AUROC by model", note: "One dot a trained (task, fold, seed), slides; control tasks left out. The spread is of tasks and trainings, not an interval.",
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
    line: { color: ink("ink"), width: 1.2 }, marker: { color: styleOf(model).color, size: 4, opacity: 0.75 }, boxpoints: few ? "all" : "outliers", jitter: 0.5, pointpos: 0,
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

// ---- critical differences -----------------------------------------------------------------------------

const NO_RANKS = "Ranks need two models and two (cohort, task) cells that all of them finished.";

function addRanks(parent) {
  const n = core.ranks?.models.length ?? 0;
  const grid = el("div", { class: n > 5 ? "" : "figures" }); // a large matrix needs the whole width
  parent.append(grid);
  addFigure(grid, {
    id: "critical-difference", title: "Mean ranks, and which models the ranks do not tell apart", height: 150 + 26 * Math.max(2, n), draw: drawCritical,
    note: "Descriptive: pairs within a cohort share patients. A bar joins models that pairwise Wilcoxon tests with Holm's correction do not tell apart (p ≥ 0.05). Rank 1 is best; hiding a model changes no rank.",
  });
  addFigure(grid, {
    id: "comparison-matrix", title: "Every model against every other", height: 130 + 62 * Math.max(2, n), draw: drawMatrix,
    note: "Row against column over (cohort, task) cells: mean difference in AUROC; wins / ties / losses; Wilcoxon p with Holm. Descriptive: bold where p < 0.05.",
  });
}

// Runs of models, by rank, of which no pair is told apart; only the longest are kept.
function cliques(order, p) {
  const runs = order.map((_, start) => {
    let end = start;
    while (end + 1 < order.length && order.slice(start, end + 1).every((a) => !(p[a][order[end + 1]] < 0.05))) end += 1;
    return [start, end];
  });
  return runs.filter(([start, end], i) => end > start && !runs.slice(0, i).some(([, earlier]) => earlier >= end));
}

function drawCritical(_, { narrow }) {
  const ranks = core.ranks;
  if (!ranks) return { empty: NO_RANKS };
  const order = ranks.models.map((_, i) => i).sort((a, b) => ranks.mean_ranks[a] - ranks.mean_ranks[b]);
  const joined = cliques(order, ranks.wilcoxon_p);
  const names = order.map((i) => `${titleOf(ranks.models[i])} ${fixed(ranks.mean_ranks[i], 2)}`);
  const together = joined.map(([from, to]) => names.slice(from, to + 1).join(", "));
  const alt = `Critical-difference diagram over ${ranks.n_cells} cells, Friedman p ${pValue(ranks.friedman_p)}. Mean ranks: ${names.join("; ")}. ${together.length ? `Not told apart: ${together.join(" | ")}` : "All are told apart"}.`;
  const rows = order.map((i) => ({ model: titleOf(ranks.models[i]), "mean rank": ranks.mean_ranks[i] }));
  return { traces: [...order.map((i, place) => stem(order, i, place)), ...joined.map((run, i) => bar(order, run, i))], layout: criticalLayout(ranks, narrow), alt, rows };
}

// The better half hangs to the left, the worse to the right, so that no two names share a line.
function stem(order, i, place) {
  const { models: names, mean_ranks: at } = core.ranks;
  const left = place < Math.ceil(order.length / 2);
  const depth = -1.4 - (left ? place : order.length - 1 - place) - core.ranks.models.length * 0.22;
  const edge = left ? 1 - 0.25 : names.length + 0.25;
  return {
    type: "scatter", mode: "lines+text", x: [at[i], at[i], edge], y: [0, depth, depth], line: { color: styleOf(names[i]).color, width: names[i] === EMPHASISED ? 3 : 1.5 },
    text: ["", "", `${safe(shortened(titleOf(names[i]), 12))} ${fixed(at[i], 2)}`], textposition: left ? "middle left" : "middle right", hoverinfo: "skip", cliponaxis: false, showlegend: false,
  };
}

function bar(order, [from, to], i) {
  const at = core.ranks.mean_ranks;
  const y = -0.45 - i * 0.42;
  return { type: "scatter", mode: "lines", x: [at[order[from]] - 0.04, at[order[to]] + 0.04], y: [y, y], line: { color: ink("ink"), width: 6 }, hoverinfo: "skip", showlegend: false };
}

function criticalLayout(ranks, narrow) {
  const n = ranks.models.length;
  const side = narrow ? 125 : 165;
  return {
    margin: { l: side, r: side, t: 60, b: 10 }, showlegend: false,
    xaxis: axis(`mean rank over ${counted(ranks.n_cells, "cell")}`, { side: "top", range: [0.75, n + 0.25], tickvals: ranks.models.map((_, i) => i + 1).filter((rank) => (rank - 1) % (narrow && n > 5 ? 2 : 1) === 0), showgrid: false, showline: true, fixedrange: true, automargin: false }),
    yaxis: { visible: false, fixedrange: true, range: [-1.6 - Math.ceil(n / 2) - n * 0.22, 0] },
  };
}

// ---- multi-comparison matrix --------------------------------------------------------------------------

function drawMatrix(_, { narrow }) {
  const ranks = core.ranks;
  if (!ranks) return { empty: NO_RANKS };
  const kept = ranks.models.map((model, i) => [model, i]).filter(([model]) => visible(model));
  if (kept.length < 2) return { empty: "Fewer than two models pass the filter." };
  const at = (table) => kept.map(([, i]) => kept.map(([, j]) => (i === j ? null : ranks[table][i][j])));
  const [difference, p, wins, ties, losses] = ["mean_difference", "wilcoxon_p", "wins", "ties", "losses"].map(at);
  const names = kept.map(([model]) => shortened(titleOf(model), narrow ? 12 : 20));
  const words = (i, j) => [signed(difference[i][j]), `${wins[i][j]} / ${ties[i][j]} / ${losses[i][j]}`, `p ${pValue(p[i][j])}`].map(safe);
  const shown = kept.map((_, i) => kept.map((_, j) => (i === j ? "" : p[i][j] < 0.05 ? `<b>${words(i, j).join("<br>")}</b>` : words(i, j).join("<br>"))));
  const most = Math.max(0.001, ...difference.flat().filter(defined).map(Math.abs));
  const rows = kept.flatMap(([a], i) => kept.filter((_, j) => j !== i).map(([b, _index]) => matrixRow(ranks, a, b)));
  return {
    traces: [{ type: "heatmap", z: difference, text: shown, texttemplate: "%{text}", hoverinfo: "skip", zmin: -most, zmax: most, colorscale: diverging(), xgap: 2, ygap: 2, textfont: { size: printing && kept.length > 5 ? 8 : 11, color: ink("ink") }, showscale: false }],
    layout: { xaxis: axis("", places(names, { side: "top", showgrid: false, ticks: "", tickangle: kept.length > 4 || narrow || names.some((name) => name.length > 14) ? -35 : 0 })), yaxis: axis("", places(names, { range: [kept.length - 0.5, -0.5], showgrid: false, ticks: "" })), margin: { l: 20, r: 20, t: 20, b: 10 }, height: 110 + 62 * kept.length },
    minWidth: printing ? 0 : 130 + 74 * kept.length, rows, alt: `Matrix of ${kept.length} by ${kept.length} models; blue where the row is ahead of the column. The table below holds its numbers.`,
  };
}

function matrixRow(ranks, a, b) {
  const [i, j] = [ranks.models.indexOf(a), ranks.models.indexOf(b)];
  const of = (table) => ranks[table][i][j];
  return { model: titleOf(a), against: titleOf(b), "mean difference": of("mean_difference"), wins: of("wins"), ties: of("ties"), losses: of("losses"), "Wilcoxon p (Holm)": of("wilcoxon_p") };
}

// Orange, nothing, blue: apart for the colour-blind; half transparent, so that the text reads in either theme.
const diverging = () => [[0, "rgba(213,94,0,0.55)"], [0.5, "rgba(128,128,128,0.06)"], [1, "rgba(0,114,178,0.55)"]];
