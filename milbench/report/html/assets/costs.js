// ---- AUROC against cost -------------------------------------------------------------------------------

const COST_AXES = [
  ["n_parameters", "Parameters", "mean"], ["multiply_adds", "Multiply-adds a bag", "mean"], ["all_tasks_seconds", "Training seconds, all tasks", "sum"],
  ["peak_bytes", "Peak memory, bytes", "largest"], ["inference_seconds", "Inference seconds a slide", "mean"], ["energy_joules", "Energy, J", "sum"],
];
const JOIN = { mean, sum: (values) => (values.every(defined) ? values.reduce((a, b) => a + b, 0) : null), largest: (values) => (values.some(defined) ? Math.max(...values.filter(defined)) : null) };

const costAxes = () => COST_AXES.filter(([key]) => frame("costs").some((row) => row[key] > 0)).map(([key, label]) => [key, label]);
const costScopes = () => [...(datasets.length > 1 ? [["", "All cohorts"]] : []), ...datasets.map((dataset) => [dataset, cohortTitle(dataset)])];

function addPareto(parent) {
  addFigure(parent, {
    id: "pareto", title: "AUROC against cost", height: 440, draw: drawPareto,
    note: "The line joins models that no other beats at the same or a lower cost. Vertical bars: 95 % bootstrap intervals. The cost axis is logarithmic.",
    controls: [{ name: "cost", label: "Cost", options: costAxes }, { name: "dataset", label: "Cohort", options: costScopes, follow: () => filter.dataset }],
  });
}

function paretoPoints({ cost, dataset }) {
  const how = JOIN[COST_AXES.find(([key]) => key === cost)[2]];
  const means = dataset || datasets.length === 1 ? frame("cohorts").filter((row) => row.dataset === (dataset || datasets[0])) : frame("overall");
  return means.filter((row) => defined(row.auroc) && !row.n_missing).map((row) => {
    const costs = frame("costs").filter((other) => other.model === row.model && (!dataset || other.dataset === dataset)).map((other) => other[cost]);
    return { ...row, cost: costs.length ? how(costs) : null };
  }).filter((row) => row.cost > 0);
}

// Cheapest first, each better than all before it.
function front(points) {
  let best = -Infinity;
  const ordered = [...points].sort((a, b) => a.cost - b.cost || b.auroc - a.auroc);
  return ordered.filter((point) => point.auroc > best && ((best = point.auroc), true));
}

function drawPareto(choices, { narrow }) {
  if (!choices.cost) return { empty: "No costs are recorded." };
  const points = paretoPoints(choices);
  if (!points.length) return { empty: "No model has both a defined mean AUROC and this cost." };
  const [, label, how] = COST_AXES.find(([key]) => key === choices.cost);
  const kept = front(points.filter((point) => visible(point.model)));
  const steps = { type: "scatter", mode: "lines", x: kept.map((p) => p.cost), y: kept.map((p) => p.auroc), line: { shape: "hv", dash: "dot", width: 1.5, color: ink("muted") }, name: "Pareto front", hoverinfo: "skip" };
  const joined = choices.dataset || datasets.length === 1 ? "" : ` (${how} of cohorts)`;
  return {
    traces: [steps, ...points.map(paretoTrace)], rows: points.map((p) => ({ model: titleOf(p.model), [label]: p.cost, AUROC: p.auroc, low: p.low, high: p.high, "on the front": kept.includes(p) ? "yes" : "no" })),
    layout: { xaxis: axis(label + joined, { type: "log", exponentformat: "SI", nticks: 8 }), yaxis: axis("mean test AUROC"), height: narrow ? 560 : 440, legend: narrow ? legendBelow : {}, showlegend: true },
    alt: `Scatter plot of AUROC against ${label}. On the Pareto front: ${kept.map((p) => `${titleOf(p.model)} (${fixed(p.auroc)} at ${compact(p.cost)})`).join("; ") || "none"}.`, zoom: true,
  };
}

function paretoTrace(point) {
  const bars = defined(point.low) ? { type: "data", symmetric: false, array: [point.high - point.auroc], arrayminus: [point.auroc - point.low], thickness: 1.2, width: 3, color: styleOf(point.model).color } : undefined;
  const name = safe(titleOf(point.model));
  return {
    type: "scatter", mode: "markers", name: legendName(point.model), x: [point.cost], y: [point.auroc], marker: marker(point.model, { size: point.model === EMPHASISED ? 14 : 11 }), visible: shownIn(point.model), error_y: bars,
    hoverinfo: "text", text: [`${name}<br>AUROC ${fixed(point.auroc)} ${interval(point.low, point.high)}<br>${compact(point.cost)}`],
  };
}
