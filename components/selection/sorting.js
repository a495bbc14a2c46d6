// A table in `.sortable` is sorted by a click on a heading, and shows the rows that fit its text field and
// its choices.
for (const area of document.querySelectorAll(".sortable")) {
  const table = area.querySelector("table"), head = table.rows[0];
  table.classList.add("sorts");
  const body = () => [...table.rows].slice(1);
  const value = (row, k) => {
    const text = row.cells[k].textContent.trim(), figure = parseFloat(text.replace(/[,%]/g, ""));
    return isNaN(figure) ? text : figure;
  };
  // Numbers stand before words, the largest first; words by the alphabet.
  const order = (a, b) => {
    if ((typeof a === "number") !== (typeof b === "number")) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? b - a : String(a).localeCompare(b);
  };
  const sort = (cell, k) => {
    const up = cell.dataset.order === "down";
    for (const other of head.cells) delete other.dataset.order;
    cell.dataset.order = up ? "up" : "down";
    const rows = body().sort((one, two) => {
      const a = value(one, k), b = value(two, k), mixed = (typeof a === "number") !== (typeof b === "number");
      return mixed || !up ? order(a, b) : -order(a, b);
    });
    rows.forEach((row) => row.parentNode.appendChild(row));
  };
  [...head.cells].forEach((cell, k) => cell.addEventListener("click", () => sort(cell, k)));

  const text = area.querySelector("input"), choices = [...area.querySelectorAll("select")];
  const fits = (row) => row.textContent.toLowerCase().includes(text.value.toLowerCase())
    && choices.every((one) => !one.value || row.cells[+one.dataset.column].textContent.trim() === one.value);
  const show = () => body().forEach((row) => { row.hidden = !fits(row); });
  for (const control of [text, ...choices]) control.addEventListener("input", show);
  show();
}
