// ---- AUROC against cost -------------------------------------------------------------------------------

const COST_AXES = [
  ["n_parameters", "Parameters", "mean", compact], ["multiply_adds", "Multiply-adds per bag", "mean", compact], ["all_tasks_seconds", "Training time, all tasks", "sum", duration],
  ["peak_bytes", "Peak memory", "largest", bytes], ["inference_seconds", ofBags("Inference time per slide"), "mean", duration], ["energy_joules", "Energy", "sum", joules],
];
const JOIN = { mean, sum: (values) => (values.every(defined) ? values.reduce((a, b) => a + b, 0) : null), largest: (values) => (values.some(defined) ? Math.max(...values.filter(defined)) : null) };

const costAxes = () => COST_AXES.filter(([key]) => frame("costs").some((row) => row[key] > 0)).map(([key, label]) => [key, label]);
const costScopes = () => [...(datasets.length > 1 ? [["", "All cohorts"]] : []), ...datasets.map((dataset) => [dataset, cohortTitle(dataset)])];

function addPareto(parent) {
  addFigure(parent, {
    id: "pareto", title: "AUROC against cost", height: 440, draw: drawPareto,
    note: "The line joins models that no other beats at the same or a lower cost. Vertical bars: 95 % bootstrap intervals, where there are any. The cost axis is logarithmic.",
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
  const [, label, how, show] = COST_AXES.find(([key]) => key === choices.cost);
  const kept = front(points.filter((point) => visible(point.model)));
  const steps = { type: "scatter", mode: "lines", x: kept.map((p) => p.cost), y: kept.map((p) => p.auroc), line: { shape: "hv", dash: "dot", width: 1.5, color: ink("muted") }, name: "Pareto front", hoverinfo: "skip" };
  const joined = choices.dataset || datasets.length === 1 ? "" : ` (${how} of cohorts)`;
  return {
    traces: [steps, ...points.map((point) => paretoTrace(point, show))], rows: points.map((p) => ({ model: titleOf(p.model), [label]: p.cost, AUROC: p.auroc, low: p.low, high: p.high, "on the front": kept.includes(p) ? "yes" : "no" })),
    layout: { xaxis: axis(label + joined, costTicks(points.map((p) => p.cost), show)), yaxis: axis("mean test AUROC", { range: aurocEnds(points) }), height: narrow ? 560 : 440, legend: narrow ? legendBelow : {}, showlegend: true },
    alt: `Scatter plot of AUROC against ${label}. On the Pareto front: ${kept.map((p) => `${titleOf(p.model)} (${fixed(p.auroc)} at ${show(p.cost)})`).join("; ") || "none"}.`, zoom: true,
  };
}

// Neither axis zooms into noise: a factor of ten and a tenth of AUROC are seen at least.
function costTicks(costs, show) {
  const [low, high] = [Math.min(...costs), Math.max(...costs)].map(Math.log10);
  const reach = Math.max((high - low) / 2 + 0.06, 0.5);
  const [from, to] = [(low + high) / 2 - reach, (low + high) / 2 + reach];
  const nice = Array.from({ length: 40 }, (_, i) => i - 12).flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power));
  const within = nice.filter((value) => Math.log10(value) >= from && Math.log10(value) <= to);
  const every = Math.ceil(within.length / 8);
  const tickvals = within.filter((_, i) => i % every === 0);
  return { type: "log", range: [from, to], tickmode: "array", tickvals, ticktext: tickvals.map(show) };
}

function aurocEnds(points) {
  const values = points.flatMap((point) => [point.auroc, point.low, point.high]).filter(defined);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(0.05 * (high - low), (0.1 - (high - low)) / 2);
  const beyond = Math.max(0, high + margin - 1.01);
  return [Math.max(-0.01, low - margin - beyond), high + margin - beyond];
}

function paretoTrace(point, show) {
  const bars = defined(point.low) ? { type: "data", symmetric: false, array: [point.high - point.auroc], arrayminus: [point.auroc - point.low], thickness: 1.2, width: 3, color: styleOf(point.model).color } : undefined;
  const name = safe(titleOf(point.model));
  return {
    type: "scatter", mode: "markers", name: legendName(point.model), x: [point.cost], y: [point.auroc], marker: marker(point.model, { size: highlighted(point.model) ? 14 : 11 }), visible: shownIn(point.model), error_y: bars,
    hoverinfo: "text", text: [`${name}<br>AUROC ${fixed(point.auroc)} ${interval(point.low, point.high)}<br>${show(point.cost)}`],
  };
}
