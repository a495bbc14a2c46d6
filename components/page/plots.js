// Draws every plot of the page in the colours of the reader's scheme and for the width of the screen, and again
// when one of them changes.
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 560px)");
const LIGHT_TRACES = ["#2456c9", "#147a4b", "#c25e00", "#b3261e", "#7c3aed", "#0e7490", "#8a5a2b", "#667085"];
const DARK_TRACES = ["#7aa2ff", "#4cc38a", "#ffb454", "#ff7b72", "#c297ff", "#56c8d8", "#d2a679", "#98a3b5"];
const LEGEND = { orientation: "h", yref: "container", y: 0, yanchor: "bottom", maxheight: 0.6 };
const LEGEND_ROW_PX = 17;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [ink, strong, line] = ["--soft", "--ink", "--line"].map((name) => style.getPropertyValue(name));
  return { ink, strong, line };
}

function axis(given, line) {
  const look = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const title = given && given.title ? { title: { text: given.title, standoff: 4 } } : {};
  return Object.assign(look, given, title);
}

function layoutOf(figure) {
  const { ink, line } = colours();
  const margin = narrow.matches ? { l: 36, r: 16, t: 12, b: 32 } : { l: 56, r: 12, t: 12, b: 40 };
  const layout = Object.assign({ margin, legend: LEGEND, hovermode: "closest" }, figure.layout);
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.font = { color: ink, size: narrow.matches ? 10 : 12 };
  layout.colorway = dark.matches ? DARK_TRACES : LIGHT_TRACES;
  const given = Object.keys(figure.layout).filter((key) => /^[xy]axis/.test(key));
  const names = new Set(given.concat(["xaxis", "yaxis"]));
  for (const name of names) layout[name] = axis(figure.layout[name], line);
  return layout;
}

// Whiskers, and on dark cards the numbers in heat maps, get the page's ink: to Plotly every card is white. Colours
// come round again, so curves are dashed from the second round on.
function inked(trace, number) {
  const { ink, strong } = colours();
  const more = {};
  if (/lines/.test(trace.mode) && number >= LIGHT_TRACES.length) more.line = Object.assign({ dash: "dash" }, trace.line);
  if (trace.error_y) more.error_y = Object.assign({ color: ink }, trace.error_y);
  if (trace.texttemplate && dark.matches) more.textfont = { color: strong };
  return Object.assign({}, trace, more);
}

// On a narrow screen the scale of a heat map lies below it, and a plot grows by the names that stand below it.
function fit(place, figure) {
  place.style.height = "";
  if (!narrow.matches) return figure.data;
  const named = figure.data.filter((trace) => trace.name).length;
  if (named > 3) place.style.height = `${place.clientHeight + (named - 3) * LEGEND_ROW_PX}px`;
  const below = { orientation: "h", thickness: 8, yref: "container", y: 0, yanchor: "bottom", ypad: 8 };
  return figure.data.map((trace) => (trace.colorbar ? Object.assign({}, trace, { colorbar: below }) : trace));
}

function draw() {
  for (const place of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(place.nextElementSibling.textContent);
    const data = fit(place, figure).map(inked);
    Plotly.react(place, data, layoutOf(figure), { displayModeBar: false, responsive: true });
  }
}

dark.addEventListener("change", draw);
narrow.addEventListener("change", draw);
draw();
