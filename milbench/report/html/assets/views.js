// ---- what each table shows --------------------------------------------------------------------------

const SPREAD = "Brackets: 95 % bootstrap interval over test patients and trainings. ±: spread over folds and seeds, not an interval.";
const MEDALS = "Best bold, second underlined.";

function cohortCell(row) {
  if (!row) return "–";
  if (row.n_missing) return lines(["incomplete"], [`${row.n_cells - row.n_missing} of ${row.n_cells} cells`, "small"]);
  return lines([fixed(row.auroc)], [interval(row.low, row.high), "small"], defined(row.sd) && [`± ${fixed(row.sd)}`, "small"], ...publishedLines(row));
}

// The paper's number counts as exact, so its difference has our interval, moved; brackets: not like for like.
function publishedLines(row) {
  const found = frame("published").find((paper) => paper.cohort === (row.dataset ?? "average") && paper.model === row.model);
  if (!found) return [];
  const [low, high] = [row.low_fixed ?? row.low, row.high_fixed ?? row.high].map((bound) => (defined(bound) ? bound - found.auroc : null));
  const theirs = found.like_for_like ? fixed(found.auroc) : `(${fixed(found.auroc)})`;
  return [[`paper ${theirs}, ours ${signed(row.auroc - found.auroc)}`, "small"], [interval(low, high), "small"]];
}

const overallRows = () => (datasets.length > 1 ? frame("overall") : []);

// Rows are models, columns cohorts; an incomplete model takes no medal.
function mainColumns() {
  const places = shownDatasets().map((dataset) => [dataset, cohortTitle(dataset), frame("cohorts").filter((row) => row.dataset === dataset)]);
  if (datasets.length > 1 && !filter.dataset) places.push(["overall", "All cohorts", overallRows()]);
  return [modelColumn, ...places.map(([key, title, rows]) => {
    const of = new Map(rows.map((row) => [row.model, row]));
    const value = (row) => (of.get(row.model)?.n_missing ? null : of.get(row.model)?.auroc ?? null);
    const ranked = shownModels().map((model) => value({ model }));
    return { key, title, number: true, value, cell: (row) => cohortCell(of.get(row.model)), mark: (row) => medal(ranked, value(row)) };
  })];
}

// What needs no image stands below whatever the order: a reader sees what a model must beat.
function baselineRows(columns) {
  return unique(frame("baselines").map((row) => row.name)).map((name) => {
    const of = (dataset) => mean(frame("baselines").filter((row) => row.name === name && (dataset === "overall" || row.dataset === dataset)
      && !factsOf(row.dataset, row.task).is_control).map((row) => row.auroc));
    return el("tr", {}, el("th", { scope: "row" }, `${name} (no image)`), columns.slice(1).map((column) => el("td", { class: "number" }, fixed(of(column.key)))));
  });
}

function addMainTable(parent) {
  addTable(parent, {
    id: "table-models", title: "Mean test AUROC over tasks, by model and cohort.", note: `${SPREAD} ${MEDALS} ${core.published.model?.length ? "“paper”: the number that the M4 paper prints, in round brackets where it is not like for like; “ours”: our difference from it; the interval below covers our patients and trainings alone. " : ""}The task filter does not apply.`,
    rows: () => shownModels().map((model) => ({ model })), columns: mainColumns, foot: baselineRows,
    csv: () => [...frame("cohorts").filter((row) => visible(row.model) && (!filter.dataset || row.dataset === filter.dataset)),
      ...(filter.dataset ? [] : overallRows().map((row) => ({ dataset: "all", ...row })))],
  });
}

function taskCell(row, facts) {
  if (!row) return "–";
  const range = facts.too_small ? "n too small" : interval(row.low, row.high);
  return lines([fixed(row.auroc)], [range, "small"], row.n_missing ? [`${row.n_missing} of ${row.n_cells} missing`, "small"] : null);
}

function taskColumns() {
  const cells = new Map(frame("cells").map((row) => [[row.dataset, row.task, row.model].join("\n"), row]));
  const cell = (row, model) => cells.get([row.dataset, row.task, model].join("\n"));
  const value = (row, model) => (cell(row, model)?.n_missing ? null : cell(row, model)?.auroc ?? null);
  const byModel = shownModels().map((model) => ({
    key: `model-${model}`, title: titleOf(model), number: true, value: (row) => value(row, model), cell: (row) => taskCell(cell(row, model), row),
    mark: (row) => (row.is_control ? "" : medal(shownModels().map((other) => value(row, other)), value(row, model))),
  }));
  return [taskColumn, ...cohortColumn, number("n_positive", "Positive", (n) => n ?? "–", "patients of the test side"),
    number("n_negative", "Negative", (n) => n ?? "–", "patients of the test side"), ...byModel];
}

function addTaskTable(parent) {
  addTable(parent, {
    id: "table-tasks", title: "Test AUROC by task.", note: `Brackets: 95 % crossed-bootstrap interval; "n too small": fewer than ten test patients of a class. ${MEDALS}`,
    rows: () => frame("tasks").filter(passes), columns: taskColumns, csv: () => frame("cells").filter(passes),
  });
}

const deltaColumn = { ...number("delta", "Difference", signed, "model − reference"), cell: (row) => lines([signed(row.delta)], [interval(row.low, row.high), "small"]),
  mark: (row) => (defined(row.p_holm) && row.p_holm < 0.05 ? "clear" : "") };

function addAgainstTable(parent) {
  const reference = core.reference;
  addTable(parent, {
    id: "table-against", title: reference ? `Difference in AUROC against ${titleOf(reference)}.` : "Differences against a reference.",
    note: "p from the crossed bootstrap; Holm over models inside a task, BH over tasks inside a model and cohort; DeLong on the fold ensemble as a cross-check. Shaded: Holm p < 0.05.",
    rows: () => frame("against").filter(passes),
    empty: reference ? "No model beside the reference passes the filter." : "No reference model is among the models, so no differences are tested.",
    columns: () => [modelColumn, taskColumn, ...cohortColumn, deltaColumn, number("p", "p", pValue), number("p_holm", "p Holm", pValue),
      number("q_bh", "q BH", pValue), number("p_delong", "p DeLong", pValue)],
  });
}

function addPairTable(parent) {
  const scope = (row) => (row.dataset === "all" ? "all cohorts" : cohortTitle(row.dataset));
  addTable(parent, {
    id: "table-pairs", title: "Every pair of models: difference in mean AUROC.", note: "Holm over the pairs inside a cohort. Superiority: share of bootstrap draws in which the first is ahead. Shaded: Holm p < 0.05.",
    rows: () => [...frame("pairs")].sort((a, b) => (b.dataset === "all") - (a.dataset === "all")).filter((row) => visible(row.model_a) && visible(row.model_b) && (!filter.dataset || row.dataset === filter.dataset)),
    columns: () => [text("pair", "Pair", (row) => `${titleOf(row.model_a)} − ${titleOf(row.model_b)}`), ...(datasets.length > 1 ? [text("dataset", "Cohort", scope)] : []), { ...deltaColumn, help: "first − second" },
      number("p", "p", pValue), number("p_holm", "p Holm", pValue), number("superiority", "Superiority", (v) => fixed(v, 2)), ...(datasets.length > 1 ? [number("p_sign_flip", "p sign flip", pValue)] : [])],
    empty: "Fewer than two models pass the filter.",
  });
}

// Thresholds of the validation side: what was asked for, what the test side gave.
const OPERATING = [["sensitivity_at_specificity_90", "Sens. at 90 % spec."], ["specificity_reached", "Spec. reached"],
  ["specificity_at_sensitivity_90", "Spec. at 90 % sens."], ["sensitivity_reached", "Sens. reached"]];

const METRICS = [["auroc", "AUROC"], ["average_precision", "Avg. precision"], ["balanced_accuracy", "Bal. accuracy"], ["f1", "F1"],
  ["sensitivity", "Sensitivity"], ["specificity", "Specificity"], ...OPERATING, ["brier", "Brier"], ["ece", "ECE"]];

let meanScores;
function metricRows() {
  meanScores ??= [...groupBy(frame("scores"), (row) => [row.dataset, row.task, row.model, row.level].join("\n")).values()].map((rows) => {
    const { dataset, task, model, level } = rows[0];
    return { dataset, task, model, level, n: rows.length, ...Object.fromEntries(METRICS.map(([key]) => [key, mean(rows.map((row) => row[key]))])) };
  });
  // if a bag is a patient, rows by bag and by patient are the same
  return meanScores.filter((row) => passes(row) && (core.bag !== "patient" || row.level === "patient"));
}

function addMetricTable(parent) {
  addTable(parent, {
    id: "table-metrics", title: core.bag === "patient" ? "All metrics, for patients." : `All metrics, for ${core.bag}s and for patients.`, note: ofBags("Means over folds and seeds. Thresholds are chosen on validation slides only: Youden’s, or the one that gives 90 % specificity (or sensitivity) there; “reached” is what it gives on the test side. Lower is better for Brier score and expected calibration error (ECE). The CSV holds every fold and seed."),
    rows: metricRows, csv: () => frame("scores").filter(passes),
    columns: () => [modelColumn, taskColumn, ...cohortColumn, text("level", "Level"), ...METRICS.map(([key, title]) => number(key, title)), number("n", "Trainings", (n) => n)],
  });
}

const asRegistered = (a, b) => datasets.indexOf(a.dataset) - datasets.indexOf(b.dataset) || models.indexOf(a.model) - models.indexOf(b.model);

function addCostTable(parent) {
  addTable(parent, {
    id: "table-costs", title: "What each model costs.", note: "Multiply-adds are counted for one bag of the stated size. “All tasks”: one training of every task, ten of a single-task model where there are ten tasks. A dash: not measured.",
    rows: () => frame("costs").filter((row) => visible(row.model) && (!filter.dataset || row.dataset === filter.dataset)).sort(asRegistered),
    columns: () => [modelColumn, ...cohortColumn, number("n_parameters", "Parameters", compact), number("multiply_adds", "Multiply-adds", compact), number("at_patches", "at patches", compact),
      number("seconds_per_epoch", "Per epoch", duration, "training time per epoch"), number("bags_per_second", "Bags per second", compact), number("all_tasks_seconds", "All tasks", duration, "training time for all tasks, one fold"),
      number("peak_bytes", "Peak memory", bytes), number("inference_seconds", ofBags("Per slide"), duration, ofBags("inference time per slide")), number("energy_joules", "Energy", joules)],
    empty: "No costs are recorded.",
  });
}

const gapRows = () => [
  ...frame("undefined"),
  ...core.left_out.map(([dataset, task]) => ({ dataset, task, fold: null, reason: "not finished by every model: left out of means, pairs and ranks" })),
  ...frame("tasks").filter((row) => row.too_small).map(({ dataset, task, n_positive, n_negative }) => ({
    dataset, task, fold: null, reason: `n too small for an interval: ${n_positive} positive and ${n_negative} negative test patients`,
  })),
];

function addGapTables(parent) {
  addTable(parent, {
    id: "table-undefined", title: "Cells without a number or without an interval.", note: "What has no score is left out of every mean, for all models alike.",
    rows: () => gapRows().filter(passes), columns: () => [taskColumn, ...cohortColumn, { ...text("fold", "Fold"), number: true }, text("reason", "Reason")], empty: "None.",
  });
  addTable(parent, {
    id: "table-failures", title: "Trials that failed or are not finished.", rows: () => frame("failures"),
    columns: () => [text("id", "Trial"), text("type", "What happened"), text("message", "Message")], empty: "None.",
  });
}
