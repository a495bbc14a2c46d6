// Draws every plot of the page in the colours of the reader's scheme, and again when that changes.
const dark = matchMedia("(prefers-color-scheme: dark)");
function colours() {
  const style = getComputedStyle(document.documentElement);
  return { ink: style.getPropertyValue("--soft"), line: style.getPropertyValue("--line") };
}
function draw() {
  const { ink, line } = colours();
  for (const place of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(place.nextElementSibling.textContent);
    const layout = Object.assign({ margin: { l: 56, r: 12, t: 8, b: 40 }, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" }, hovermode: "closest" }, figure.layout);
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: ink, size: 12 };
    layout.colorway = dark.matches
      ? ["#7aa2ff", "#4cc38a", "#ffb454", "#ff7b72", "#c297ff", "#56c8d8", "#d2a679", "#98a3b5"]
      : ["#2456c9", "#147a4b", "#c25e00", "#b3261e", "#7c3aed", "#0e7490", "#8a5a2b", "#667085"];
    for (const axis of Object.keys(figure.layout).filter((key) => /^[xy]axis/.test(key)).concat(["xaxis", "yaxis"]))
      layout[axis] = Object.assign({ gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true }, figure.layout[axis], figure.layout[axis] && figure.layout[axis].title ? { title: { text: figure.layout[axis].title, standoff: 4 } } : {});
    Plotly.react(place, figure.data, layout, { displayModeBar: false, responsive: true });
  }
}
dark.addEventListener("change", draw);
draw();
