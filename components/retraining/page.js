// Shows long lists in portions, filters the decisions, and opens the entry that a link points at. Without it the page shows everything.
const PORTION = 25;
const lists = [...document.querySelectorAll("[data-list]")].map((place) => {
  const entries = [...place.querySelectorAll(".entry")];
  const filters = place.querySelector(".filters");
  const more = document.createElement("button");
  more.className = "more";
  more.type = "button";
  place.append(more);
  const list = { place, entries, filters, more, shown: history.state?.[place.dataset.list] ?? PORTION, words: entries.map((entry) => entry.textContent.toLowerCase()) };
  more.addEventListener("click", () => { list.shown += PORTION; remember(); show(list); });
  if (filters) {
    filters.hidden = false;
    filters.addEventListener("input", () => { list.shown = PORTION; show(list); });
  }
  return list;
});
function remember() {
  history.replaceState(Object.fromEntries(lists.map((list) => [list.place.dataset.list, list.shown])), "");
}
function matching(list) {
  if (!list.filters) return list.entries.map(() => true);
  const wanted = list.filters.querySelector("input[type=search]").value.toLowerCase().split(/\s+/);
  const action = list.filters.querySelector("input[type=radio]:checked").value;
  return list.entries.map((entry, k) => (!action || entry.dataset.action === action) && wanted.every((word) => list.words[k].includes(word)));
}
function show(list) {
  const matches = matching(list);
  let found = 0;
  list.entries.forEach((entry, k) => { entry.hidden = !(matches[k] && ++found <= list.shown); });
  list.more.hidden = found <= list.shown;
  list.more.textContent = `Show ${Math.min(PORTION, found - list.shown)} more of ${found}`;
  const count = list.place.querySelector(".found");
  if (count) count.textContent = found === list.entries.length ? `${found} in all` : `${found} of ${list.entries.length}`;
}
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target?.classList.contains("entry")) return;
  const list = lists.find((one) => one.entries.includes(target));
  if (list.filters && !matching(list)[list.entries.indexOf(target)]) {
    list.filters.querySelector("input[type=search]").value = "";
    list.filters.querySelector("input[type=radio]").checked = true;
  }
  const matches = matching(list);
  list.shown = Math.max(list.shown, matches.slice(0, list.entries.indexOf(target) + 1).filter(Boolean).length);
  show(list);
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
addEventListener("pageshow", () => { lists.forEach(show); openTarget(); });
lists.forEach(show);
