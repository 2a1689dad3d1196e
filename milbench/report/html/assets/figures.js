// ---- a chart that is drawn when it is seen ------------------------------------------------------------
// spec: id, title, note, height, controls: [{name, label, options(choices) -> [[value, label]], follow}],
// draw(choices, size) -> {traces, layout, alt, rows} or {empty: why}. `rows` is the chart as a table.

const figures = [];
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const PAPER_WIDTH = 670;
let printing = false;

let plotly;
// 5 MB that no table needs: fetched from the file beside the page when the first chart is near.
function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = el("script", { src: "plotly.min.js", onload: resolve, onerror: reject });
    document.head.append(script);
  });
  return plotly;
}

function addFigure(parent, spec) {
  const name = `${spec.id}-title`;
  const figure = { spec, choices: {}, drawn: false, near: false };
  figure.plot = el("div", { class: "plot", id: spec.id, role: "img", style: `min-height:${spec.height}px`, "aria-label": spec.title });
  figure.subject = el("span", {}); // what was chosen, since paper shows no controls
  figure.empty = el("p", { class: "empty", hidden: true });
  figure.controls = el("div", { class: "bar" });
  figure.data = el("details", { class: "chart-data", ontoggle: () => drawData(figure) }, el("summary", {}, "This chart as a table"));
  figure.node = el("figure", { "aria-labelledby": name }, el("figcaption", {}, el("strong", { id: name }, spec.title, figure.subject), spec.note ?? ""),
    figure.controls, el("div", { class: "plot-scroll" }, figure.plot), figure.empty, figure.data);
  parent.append(figure.node);
  figures.push(figure);
  onFilter(() => refresh(figure));
  watcher.observe(figure.node);
  figure.node.hidden = spec.shown ? !spec.shown() : false;
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const figure = figures.find((candidate) => candidate.node === entry.target);
    figure.near = entry.isIntersecting;
    if (figure.near && !figure.drawn) drawSoon(figure);
  }
}, { rootMargin: "300px" });

// The controls too wait until then, since what they offer may be most of the page's bytes.
function drawSoon(figure) {
  if (!figure.ready) drawControls(figure);
  return loadPlotly().then(() => drawFigure(figure), () => say(figure, "plotly.min.js does not lie beside this page, so charts are not drawn; the tables are whole."));
}

function say(figure, why) {
  figure.empty.textContent = why ?? "";
  figure.empty.hidden = !why;
  figure.plot.parentNode.hidden = Boolean(why);
}

// A drawn chart that is out of sight is drawn again when it comes back.
function refresh(figure) {
  figure.node.hidden = figure.spec.shown ? !figure.spec.shown() : false;
  figure.drawn = figure.ready = false;
  if (figure.near) drawSoon(figure);
  drawData(figure);
}

function drawControls(figure) {
  figure.ready = true;
  const bars = (figure.spec.controls ?? []).map((control) => {
    const options = control.options(figure.choices);
    const wanted = control.follow?.() || figure.choices[control.name];
    figure.choices[control.name] = options.some(([value]) => value === wanted) ? wanted : options[0]?.[0];
    const select = el("select", { onchange: (event) => choose(figure, control.name, event.target.value) },
      options.map(([value, label]) => el("option", { value, selected: value === figure.choices[control.name] }, label)));
    return el("label", { hidden: options.length < 2 }, control.label, select);
  });
  figure.controls.replaceChildren(...bars, el("button", { type: "button", onclick: () => saveImage(figure), "aria-label": `Save as SVG: ${figure.spec.title}` }, "Save as SVG"));
}

const chosenLabels = (figure) => {
  const selects = [...figure.controls.querySelectorAll("label:not([hidden]) select")];
  return selects.length ? `: ${selects.map((select) => select.selectedOptions[0]?.textContent).join(", ")}` : "";
};

function choose(figure, name, value) {
  const position = figure.spec.controls.findIndex((control) => control.name === name);
  figure.choices[name] = value;
  drawControls(figure);
  figure.controls.querySelectorAll("select")[position].focus();
  drawSoon(figure);
  drawData(figure);
}

function drawFigure(figure) {
  if (!figure.ready) drawControls(figure);
  const width = printing ? PAPER_WIDTH : figure.node.clientWidth - 24;
  const drawing = figure.spec.draw(figure.choices, { width, narrow: width < 560 });
  figure.drawn = true;
  say(figure, drawing.empty);
  figure.subject.textContent = chosenLabels(figure);
  if (drawing.empty) return;
  figure.plot.setAttribute("aria-label", drawing.alt);
  const layout = { ...baseLayout(), height: figure.spec.height, width: Math.max(width, drawing.minWidth ?? 0), ...drawing.layout };
  const draggable = !printing && !matchMedia("(pointer: coarse)").matches && drawing.zoom;
  layout.dragmode = draggable ? "zoom" : false;
  Plotly.react(figure.plot, drawing.traces, layout, { displayModeBar: false, displaylogo: false, doubleClick: "reset" });
}

function drawData(figure) {
  figure.data.querySelectorAll(".scroll, .more-columns").forEach((node) => node.remove());
  if (!figure.data.open) return;
  if (!figure.ready) drawControls(figure);
  const { rows = [] } = figure.spec.draw(figure.choices, { width: 800, narrow: false });
  const names = Object.keys(rows[0] ?? {});
  const head = el("tr", {}, names.map((name) => el("th", { scope: "col" }, el("span", { style: "padding:.45rem .75rem;display:inline-block" }, name))));
  const body = rows.map((row) => el("tr", {}, names.map((name, i) => el(i ? "td" : "th", { scope: i ? null : "row" }, shownValue(row[name])))));
  const region = el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Data: ${figure.spec.title}` }, el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
  figure.data.append(region);
  watchWidth(region);
}

const shownValue = (value) => (!defined(value) ? "–" : typeof value === "number" ? minus(String(Number(value.toPrecision(4)))) : String(value));

function saveImage(figure) {
  loadPlotly().then(() => drawFigure(figure)).then(() => Plotly.downloadImage(figure.plot, { format: "svg", filename: figure.spec.id }));
}

function baseLayout() {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: FONT, size: 13, color: ink("ink") },
    margin: { l: 60, r: 20, t: 20, b: 50 }, hoverlabel: { bgcolor: ink("panel"), bordercolor: ink("line"), font: { color: ink("ink"), family: FONT } },
    legend: { font: { size: 12 } }, hovermode: "closest",
  };
}

const axis = (title, more = {}) => ({
  title: { text: title, standoff: 8 }, gridcolor: ink("line"), linecolor: ink("muted"), zeroline: false, ticks: "outside", tickcolor: ink("line"), automargin: true, ...more,
});

const shortened = (name, length) => (name.length > length ? `${name.slice(0, length - 1)}…` : name);
const legendName = (model) => safe(shortened(titleOf(model), 22));

// Places by number, named at the ticks: Plotly would merge two categories of the same name.
const places = (names, more = {}) => ({ tickmode: "array", tickvals: names.map((_, i) => i), ticktext: names.map((name) => safe(shortened(name, 28))), range: [-0.5, names.length - 0.5], ...more });

// Below in units of the whole chart: in units of the axes the margin and the legend would chase each other.
const legendBelow = { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0.01, yanchor: "bottom", font: { size: 11 } };
const line = (model) => (({ color, dash, width }) => ({ color, dash, width }))(styleOf(model));
const marker = (model, more = {}) => (({ color, symbol }) => ({ color, symbol, size: 8, ...more }))(styleOf(model));
const shownIn = (model) => (visible(model) ? true : "legendonly");
