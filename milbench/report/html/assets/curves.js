// ---- training curves ----------------------------------------------------------------------------------

const trialName = (trial) => `fold ${trial.fold}, seed ${trial.seed}`;
const curvesOf = (choices, keys) => block("curves").filter((trial) => keys.every((key) => !choices[key] || trial[key] === choices[key]));
// As registered, so that the first task of a cohort comes first.
const inOrder = (name, values) => {
  const order = { dataset: datasets, model: models, task_label: tasksOf("") }[name];
  return [...values].sort((a, b) => order.indexOf(a) - order.indexOf(b));
};
const choicesOf = (keys, name, show = String) => (choices) => inOrder(name, unique(curvesOf(choices, keys).map((trial) => trial[name]))).map((value) => [value, show(value)]);

function addCurves(parent) {
  addFigure(parent, {
    id: "training", title: "Training curves", height: 420, draw: drawCurves, note: `Losses on the left, ${core.validation} on the right; the test side is never looked at while training.`,
    controls: [
      { name: "dataset", label: "Cohort", options: choicesOf([], "dataset", cohortTitle), follow: () => filter.dataset },
      { name: "model", label: "Model", options: choicesOf(["dataset"], "model", titleOf) },
      { name: "task_label", label: "Task", options: choicesOf(["dataset", "model"], "task_label"), follow: () => filter.task },
      { name: "trial", label: "Trial", options: (choices) => [["", "all folds and seeds"], ...curvesOf(choices, ["dataset", "model", "task_label"]).map(trialName).map((name) => [name, name])] },
    ],
  });
}

const PANELS = [["train_loss", "training loss", "solid", ""], ["val_loss", "validation loss", "dash", ""], ["val_auroc", core.validation, "solid", "2"]];

function drawCurves(choices, { narrow }) {
  const trials = curvesOf(choices, ["dataset", "model", "task_label"]).filter((trial) => !choices.trial || trialName(trial) === choices.trial);
  if (!trials.length) return { empty: "No training curve is recorded." };
  const traces = trials.flatMap((trial, i) => PANELS.map(([key, label, dash, panel]) => ({
    type: "scatter", mode: trial.epoch.length > 1 ? "lines" : "markers", x: trial.epoch, y: trial[key], xaxis: `x${panel}`, yaxis: `y${panel}`, name: label, legendgroup: key, showlegend: i === 0,
    line: { dash, width: 1.5, color: panelColor(key) }, marker: { color: panelColor(key) }, hovertext: trial.epoch.map((epoch, at) => `${trialName(trial)}<br>epoch ${epoch}: ${label} ${fixed(trial[key][at])}`), hoverinfo: "text",
  })));
  const rows = trials.flatMap((trial) => trial.epoch.map((epoch, at) => ({ trial: trialName(trial), epoch, ...Object.fromEntries(PANELS.map(([key, label]) => [label, trial[key][at]])) })));
  return { traces, rows, layout: epochPanels(trials, narrow), zoom: true, alt: `Training curves of ${titleOf(choices.model)}, ${counted(trials.length, "trial")}. ${curveEnds(trials)}` };
}

// Epochs are whole; Plotly would put ticks between two of them.
function epochPanels(trials, narrow) {
  const layout = twoPanels(narrow, [["epoch", "loss"], ["epoch", core.validation]], {});
  const few = Math.max(...trials.map((trial) => trial.epoch.length)) <= 10;
  for (const name of ["xaxis", "xaxis2"]) Object.assign(layout[name], few ? { tick0: 1, dtick: 1 } : { tickformat: "d" });
  return layout;
}

const panelColor = (key) => ({ train_loss: "#0072B2", val_loss: "#D55E00", val_auroc: "#009E73" })[key];
const curveEnds = (trials) => `Last epoch, mean over trials: ${PANELS.map(([key, label]) => `${label} ${fixed(mean(trials.map((trial) => trial[key].at(-1))))}`).join("; ")}.`;

// Side by side where there is room, else one above the other.
function twoPanels(narrow, [[x1, y1], [x2, y2]], more) {
  const [first, second] = narrow ? [[0.62, 1], [0, 0.38]] : [[0, 0.45], [0.55, 1]];
  const place = (domain) => (narrow ? [{}, { domain }] : [{ domain }, {}]);
  const [[xa, ya], [xb, yb]] = [place(first), place(second)];
  return {
    xaxis: axis(x1, { ...xa, ...more }), yaxis: axis(y1, { ...ya, ...more }), xaxis2: axis(x2, { ...xb, anchor: "y2", ...more }), yaxis2: axis(y2, { ...yb, anchor: "x2", ...more }),
    legend: legendBelow, height: narrow ? 700 : 460, showlegend: true,
  };
}

// ---- ROC and calibration ------------------------------------------------------------------------------

function addRoc(parent) {
  addFigure(parent, {
    id: "roc", title: "ROC and calibration by task", height: 440, draw: drawRoc,
    note: ofBags("Every test slide with its mean probability over folds and seeds. Right: share of positive slides against the mean probability, in ten equal-width bins; the diagonal is perfect calibration."),
    controls: [
      { name: "dataset", label: "Cohort", options: () => inOrder("dataset", unique(block("roc").map((row) => row.dataset))).map((value) => [value, cohortTitle(value)]), follow: () => filter.dataset },
      { name: "task", label: "Task", options: (choices) => inOrder("task_label", unique(block("roc").filter((row) => row.dataset === choices.dataset).map((row) => row.task))).map((value) => [value, value]), follow: () => filter.task },
    ],
  });
}

// Points of the ROC curve, one a distinct score: ties rise on the diagonal.
function rocPoints({ targets, probabilities }) {
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  const positives = [...targets].filter((target) => target === "1").length;
  const points = { x: [0], y: [0], area: 0 };
  let [hits, alarms] = [0, 0];
  order.forEach((slide, place) => {
    if (targets[slide] === "1") hits += 1;
    else alarms += 1;
    if (probabilities[slide] === probabilities[order[place + 1]]) return;
    addPoint(points, alarms / (targets.length - positives), hits / positives);
  });
  return points;
}

function addPoint(points, x, y) {
  points.area += ((x - points.x.at(-1)) * (y + points.y.at(-1))) / 2;
  points.x.push(x);
  points.y.push(y);
}

function calibration({ targets, probabilities }) {
  const bins = groupBy(probabilities.map((p, i) => ({ p, y: Number(targets[i]), bin: Math.min(9, Math.floor(p * 10)) })), (row) => row.bin);
  return [...bins.entries()].sort(([a], [b]) => a - b).map(([, rows]) => ({ p: mean(rows.map((row) => row.p)), y: mean(rows.map((row) => row.y)), n: rows.length }));
}

function drawRoc(choices, { narrow }) {
  const curves = block("roc").filter((row) => row.dataset === choices.dataset && row.task === choices.task);
  if (!curves.length) return { empty: "No predictions are stored." };
  const scored = curves.filter((row) => row.targets.includes("0") && row.targets.includes("1")).sort((a, b) => models.indexOf(a.model) - models.indexOf(b.model)).map((row) => ({ ...row, roc: rocPoints(row), bins: calibration(row) }));
  if (!scored.length) return { empty: "The test side of this task holds one class only: there is no ROC curve." };
  const layout = twoPanels(narrow, [["false positive rate", "true positive rate"], ["mean probability", ofBags("share of positive slides")]], { range: [-0.02, 1.02] });
  return {
    traces: scored.flatMap(rocTraces), layout: { ...layout, shapes: [diagonal("x", "y"), diagonal("x2", "y2")], annotations: core.pooled.includes(choices.dataset) ? [POOLED] : [] }, zoom: true,
    alt: `ROC and calibration of ${choices.task}. Area under the curve: ${scored.map((row) => `${titleOf(row.model)} ${fixed(row.roc.area)}`).join("; ")}.`,
    rows: scored.flatMap((row) => row.bins.map((bin) => ({ model: titleOf(row.model), AUROC: row.roc.area, "mean probability": bin.p, "share positive": bin.y, [`${core.bag}s`]: bin.n }))),
  };
}

const POOLED = { text: "Test sides differ between folds: scores of different trainings are pooled; read the shape, not the area.", xref: "paper", yref: "paper", x: 0, y: 1.05, showarrow: false, font: { size: 11 }, xanchor: "left", yanchor: "bottom" };
const diagonal = (x, y) => ({ type: "line", x0: 0, y0: 0, x1: 1, y1: 1, xref: x, yref: y, line: { dash: "dot", width: 1, color: ink("muted") } });

function rocTraces({ model, roc, bins }) {
  const shared = { type: "scatter", legendgroup: model, visible: shownIn(model), line: line(model), hoverinfo: "text" };
  const name = `${legendName(model)} ${fixed(roc.area)}`;
  return [
    { ...shared, mode: "lines", name, x: roc.x, y: roc.y, hovertext: roc.x.map((x, i) => `${name}<br>${fixed(x, 2)}, ${fixed(roc.y[i], 2)}`) },
    { ...shared, mode: "lines+markers", name, showlegend: false, xaxis: "x2", yaxis: "y2", x: bins.map((bin) => bin.p), y: bins.map((bin) => bin.y), marker: marker(model, { size: bins.map((bin) => 4 + Math.min(10, Math.sqrt(bin.n))) }),
      hovertext: bins.map((bin) => `${name}<br>${fixed(bin.p, 2)} said, ${fixed(bin.y, 2)} found, ${counted(bin.n, core.bag)}`) },
  ];
}
