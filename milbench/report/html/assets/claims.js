// ---- the paper's claims: their verdicts, and the numbers behind them -----------------------------------

const VERDICT_MARKS = { held: "clear", "not held": "contradicted" };

function addClaims(parent) {
  const rows = frame("claims");
  if (!rows.length) return;
  parent.hidden = byId("claims-link").hidden = false;
  const claims = [...groupBy(rows, (row) => row.claim).values()].map((statements) => ({
    ...statements[0], verdict: statements[0].claim_verdict, held: `${statements.filter((row) => row.verdict === "held").length} of ${statements.length}`,
    why: unique(statements.map((row) => row.why).filter(Boolean)).join("; "),
  }));
  addVerdicts(parent, claims);
  addStatements(parent, rows);
}

const verdictColumn = { ...text("verdict", "Verdict"), mark: (row) => VERDICT_MARKS[row.verdict] ?? "" };
const wrapped = (key, title) => ({ ...text(key, title), mark: () => "prose" });

function addVerdicts(parent, claims) {
  addTable(parent, {
    id: "table-claims", title: "The M4 paper’s claims, judged on these stores.", note: "Held: all statements below are. Not held: one is not. Else it cannot be told. No filter applies.",
    rows: () => claims,
    columns: () => [{ ...text("claim", "Claim", (row) => `${row.claim}. ${row.text}`), mark: () => "prose" }, text("where", "In the paper"), verdictColumn, text("held", "Statements held"), wrapped("why", "Why not told")],
  });
}

function addStatements(parent, rows) {
  addTable(parent, {
    id: "table-statements", title: "The numbers behind the verdicts.", note: "Of each statement the weakest difference that it rests on, in AUROC, with its 95 % interval over test patients and folds. Held: all its differences’ intervals say so. Not held: one contradicts it even after Bonferroni’s correction over the claim. “Paper”: the same number in the paper.",
    rows: () => rows,
    columns: () => [{ ...text("statement", "Statement", (row) => `${row.claim}. ${row.statement}`), mark: () => "prose" }, number("paper", "Paper", signed),
      { ...number("value", "Ours", signed), cell: (row) => lines([signed(row.value)], [interval(row.low, row.high), "small"]) }, wrapped("contrast", "Weakest difference"),
      { ...text("n_held", "Differences held", (row) => `${row.n_held} of ${row.n_contrasts}`) }, verdictColumn, wrapped("why", "Why not told")],
  });
}
