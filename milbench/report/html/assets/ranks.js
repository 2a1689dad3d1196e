// ---- critical differences -----------------------------------------------------------------------------

const NO_RANKS = "Ranks need two models and two (cohort, task) cells that all of them finished.";

// Models beyond which a cell of the matrix holds the difference alone, so that the matrix needs no scrolling.
const MOST_IN_WORDS = 12;
const cellHeight = (n) => (n > MOST_IN_WORDS ? 28 : 62);

function addRanks(parent) {
  const n = core.ranks?.models.length ?? 0;
  const grid = el("div", { class: n > 5 ? "" : "figures" }); // a large matrix needs the whole width
  parent.append(grid);
  addFigure(grid, {
    id: "critical-difference", title: "Mean ranks, and which models are not told apart", height: 150 + 26 * Math.max(2, n), draw: drawCritical,
    note: `A bar joins models of which the table of pairs tells no two apart (crossed bootstrap, Holm, p ≥ 0.05). Rank 1 is best; hiding a model changes no rank. ${core.apart?.note ?? ""}`,
  });
  addFigure(grid, {
    id: "comparison-matrix", title: "Every model against every other", height: 130 + cellHeight(n) * Math.max(2, n), draw: drawMatrix,
    note: `Row against column over (cohort, task) cells: mean difference in AUROC; with up to ${MOST_IN_WORDS} models also wins / ties / losses and p of the table of pairs. Grey: not told apart. Full colour from a difference of ${core.apart?.full_colour ?? ""}. ${core.apart?.note ?? ""}`,
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
  const joined = core.apart.can_tell ? cliques(order, core.apart.p) : []; // else a bar would join all, whatever the data say
  const names = order.map((i) => `${titleOf(ranks.models[i])} ${fixed(ranks.mean_ranks[i], 2)}`);
  const together = joined.map(([from, to]) => names.slice(from, to + 1).join(", "));
  const alt = `Critical-difference diagram over ${ranks.n_cells} cells, Friedman p ${pValue(ranks.friedman_p)}. Mean ranks: ${names.join("; ")}. ${together.length ? `Not told apart: ${together.join(" | ")}` : core.apart.can_tell ? "All are told apart" : core.apart.note}.`;
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
    type: "scatter", mode: "lines+text", x: [at[i], at[i], edge], y: [0, depth, depth], line: { color: styleOf(names[i]).color, width: highlighted(names[i]) ? 3 : 1.5 },
    text: ["", "", `${safe(shortened(titleOf(names[i]), 18))} ${fixed(at[i], 2)}`], textposition: left ? "middle left" : "middle right", hoverinfo: "skip", cliponaxis: false, showlegend: false,
  };
}

function bar(order, [from, to], i) {
  const at = core.ranks.mean_ranks;
  const y = -0.45 - i * 0.42;
  return { type: "scatter", mode: "lines", x: [at[order[from]] - 0.04, at[order[to]] + 0.04], y: [y, y], line: { color: ink("ink"), width: 6 }, hoverinfo: "skip", showlegend: false };
}

function criticalLayout(ranks, narrow) {
  const n = ranks.models.length;
  const side = narrow ? 125 : 185;
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
  const [difference, wins, ties, losses] = ["mean_difference", "wins", "ties", "losses"].map(at);
  const p = kept.map(([, i]) => kept.map(([, j]) => core.apart.p[i][j]));
  const shade = kept.map((_, i) => kept.map((_, j) => (i === j ? null : p[i][j] < 0.05 ? difference[i][j] : 0)));
  const names = kept.map(([model]) => shortened(titleOf(model), narrow ? 12 : 20));
  const inWords = kept.length <= MOST_IN_WORDS;
  const words = (i, j) => (inWords ? wordsOf(i, j) : [signed(difference[i][j])]);
  const wordsOf = (i, j) => [signed(difference[i][j]), `${wins[i][j]} / ${ties[i][j]} / ${losses[i][j]}`, `p ${pValue(p[i][j])}`].map(safe);
  const shown = kept.map((_, i) => kept.map((_, j) => (i === j ? "" : words(i, j).join("<br>"))));
  const most = core.apart.full_colour; // the same in every report
  const rows = kept.flatMap(([a], i) => kept.filter((_, j) => j !== i).map(([b, _index]) => matrixRow(ranks, a, b)));
  return {
    traces: [{ type: "heatmap", z: shade, text: shown, texttemplate: "%{text}", hoverinfo: "skip", zmin: -most, zmax: most, colorscale: diverging(), xgap: 2, ygap: 2, textfont: { size: printing && kept.length > 5 ? 8 : 11, color: ink("ink") }, showscale: false }],
    layout: { xaxis: axis("", places(names, { side: "top", showgrid: false, ticks: "", tickangle: kept.length > 4 || narrow || names.some((name) => name.length > 14) ? -35 : 0 })), yaxis: axis("", places(names, { range: [kept.length - 0.5, -0.5], showgrid: false, ticks: "" })), margin: { l: 20, r: 20, t: 20, b: 10 }, height: 110 + cellHeight(kept.length) * kept.length },
    minWidth: printing ? 0 : 130 + (inWords ? 74 : 50) * kept.length, rows, alt: `Matrix of ${kept.length} by ${kept.length} models; blue where the row is ahead of the column, orange where it is behind, grey where the two are not told apart. The table below holds its numbers.`,
  };
}

function matrixRow(ranks, a, b) {
  const [i, j] = [ranks.models.indexOf(a), ranks.models.indexOf(b)];
  const of = (table) => ranks[table][i][j];
  return { model: titleOf(a), against: titleOf(b), "mean difference": of("mean_difference"), wins: of("wins"), ties: of("ties"), losses: of("losses"), "p (Holm)": core.apart.p[i][j], "Wilcoxon p (Holm)": of("wilcoxon_p") };
}

// Orange, grey, blue: apart for the colour-blind; half transparent, so that the text reads in either theme.
const diverging = () => [[0, "rgba(213,94,0,0.55)"], [0.5, "rgba(128,128,128,0.16)"], [1, "rgba(0,114,178,0.55)"]];
