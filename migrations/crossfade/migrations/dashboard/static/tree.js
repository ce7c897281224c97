// A tree of calls as a table: one row is in the tab order, arrows walk the rows and fold them. The server sends every
// row open; which are folded and which is current is kept here, by call, when the page is renewed.
"use strict";

const folded = new Set();
let current = "";

function rows() {
  return [...document.querySelectorAll("[role=treegrid] tbody tr")];
}

const levelOf = (row) => Number(row.getAttribute("aria-level"));
const isNested = (row) => row.hasAttribute("aria-expanded");
const isFolded = (row) => folded.has(row.dataset.call);

function arrange() {
  const had = document.activeElement?.matches("[role=treegrid] tbody tr");
  let under = Infinity; // the level of the folded row whose calls follow
  for (const row of rows()) {
    if (levelOf(row) <= under) under = Infinity;
    row.hidden = levelOf(row) > under;
    if (!isNested(row)) continue;
    row.setAttribute("aria-expanded", String(!isFolded(row)));
    if (!row.hidden && isFolded(row)) under = levelOf(row);
  }
  const seen = rows().filter((row) => !row.hidden);
  const here = seen.find((row) => row.dataset.call === current) || seen[0];
  for (const row of rows()) row.tabIndex = row === here ? 0 : -1;
  if (had && here) here.focus();
}

function go(row) {
  if (!row) return;
  current = row.dataset.call;
  arrange();
  row.focus();
}

function fold(row, close) {
  if (close) folded.add(row.dataset.call);
  else folded.delete(row.dataset.call);
  arrange();
}

function parentOf(row, seen) {
  return seen.slice(0, seen.indexOf(row)).findLast((each) => levelOf(each) < levelOf(row));
}

const KEYS = {
  ArrowDown: (row, seen) => go(seen[seen.indexOf(row) + 1]),
  ArrowUp: (row, seen) => go(seen[seen.indexOf(row) - 1]),
  Home: (row, seen) => go(seen[0]),
  End: (row, seen) => go(seen.at(-1)),
  ArrowRight: (row, seen) => {
    if (!isNested(row)) return;
    if (isFolded(row)) fold(row, false);
    else go(seen[seen.indexOf(row) + 1]);
  },
  ArrowLeft: (row, seen) => {
    if (isNested(row) && !isFolded(row)) fold(row, true);
    else go(parentOf(row, seen));
  },
  Enter: (row) => row.querySelector("a")?.click(),
};

document.addEventListener("keydown", (event) => {
  const row = event.target.closest("[role=treegrid] tbody tr");
  if (!row || event.target !== row || !KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  KEYS[event.key](row, rows().filter((each) => !each.hidden));
});

document.addEventListener("click", (event) => {
  const row = event.target.closest("[role=treegrid] tbody tr");
  if (!row || event.target.closest("a")) return;
  current = row.dataset.call;
  if (event.target.closest(".twist") && isNested(row)) fold(row, !isFolded(row));
  else arrange();
});

document.addEventListener("renewed", arrange);
arrange();
