/* What the page adds where scripts run: it is whole without. */
(() => {
"use strict";

// What is folded opens for a link into it, and for print.
const show = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  const inner = target.querySelector(":scope > details");
  if (inner) inner.open = true;
};
addEventListener("hashchange", show);
show();
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const each of closed) each.open = true;
});
addEventListener("afterprint", () => { for (const each of closed) each.open = false; });

// A table is sorted by a click on a heading: up, down, as it was.
const scales = { "": 1, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };
const text = cell => (cell.querySelector(".text") || cell).textContent.trim();
const number = shown => {
  const found = /^(?:< )?([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?: ([GTPE])\b)?/.exec(shown);
  return found ? Number(found[1].replaceAll(",", "")) * scales[found[2] || ""] : null;
};
const order = new Intl.Collator("en", { numeric: true }).compare;
const flat = new Map();
const rowsOf = table => {  // each with the cells that it shares with rows above it
  if (!flat.has(table)) {
    const rows = [];
    for (const body of table.tBodies) {
      let head = null;
      for (const row of body.rows) {
        if (row.cells[0].tagName === "TH") head = row.cells[0];
        rows.push([row, head]);
      }
    }
    flat.set(table, rows);
  }
  return flat.get(table);
};
const separate = table => {
  const rows = rowsOf(table);
  for (const [row, head] of rows) {
    if (row.cells[0] !== head) row.prepend(head.cloneNode(true));
    row.cells[0].removeAttribute("rowspan");
    row.cells[0].scope = "row";
  }
  return rows.map(([row]) => row);
};
const sort = (table, column, direction) => {
  const rows = separate(table);
  const sorted = [...rows];
  if (direction) {
    const numeric = table.tHead.rows[0].cells[column].classList.contains("number");
    const keyOf = row => numeric ? number(text(row.cells[column])) : text(row.cells[column]) || null;
    const keys = new Map(rows.map(row => [row, keyOf(row)]));
    sorted.sort((a, b) => {
      const [one, other] = [keys.get(a), keys.get(b)];
      if (one === null || other === null) return (one === null) - (other === null);
      return direction * (numeric ? one - other : order(one, other));
    });
  }
  table.tBodies[0].append(...sorted);
};
for (const table of document.querySelectorAll("table:not(.heat)")) {
  const count = rowsOf(table).length;
  if (count < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      for (const each of heads) each.removeAttribute("aria-sort");
      const next = { ascending: "descending", descending: "" }[before] ?? "ascending";
      if (next) head.setAttribute("aria-sort", next);
      sort(table, column, { ascending: 1, descending: -1 }[next] || 0);
    });
  });
  if (count < 12) continue;
  const field = document.createElement("input");
  field.type = "search";
  field.className = "filter";
  field.placeholder = `Filter ${count} rows`;
  const region = table.parentElement;
  const name = region.getAttribute("aria-label") || table.caption?.textContent.trim() || "the table";
  field.setAttribute("aria-label", `Filter the rows of ${name}`);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of separate(table)) {
      const said = row.textContent.toLowerCase();
      row.hidden = !words.every(word => said.includes(word));
    }
  });
  region.before(field);
}

// Points of plots tell their values at once, to a finger too; without, the browser shows titles.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
for (const dot of document.querySelectorAll(".dot")) {
  const title = dot.querySelector("title");
  const told = title.textContent;
  title.remove();
  dot.addEventListener("pointerenter", () => {
    tip.textContent = told;
    tip.hidden = false;
    const { left, top, width, height } = dot.getBoundingClientRect();
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${scrollX + Math.max(8, Math.min(left + width / 2 - tip.offsetWidth / 2, room))}px`;
    const above = top - tip.offsetHeight - 6;
    tip.style.top = `${scrollY + (above > 0 ? above : top + height + 6)}px`;
  });
  dot.addEventListener("pointerleave", () => { tip.hidden = true; });
}
})();
