"use strict";
(() => {
  const superscripts = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  // "3·10⁻¹⁶", "(0, 5, 7)" and "12 of 12" sort by their numbers, anything else as text.
  const asNumber = (text) => {
    const plain = text.replace(/−/g, "-").replace("∞", "Infinity");
    const power = plain.match(/^(-?[\d.]+)·10(⁻?)([⁰¹²³⁴⁵⁶⁷⁸⁹]+)$/);
    if (power) {
      const digits = [...power[3]].map((digit) => superscripts.indexOf(digit)).join("");
      return Number(`${power[1]}e${power[2] ? "-" : ""}${digits}`);
    }
    const leading = plain.match(/^\(?(-?(?:[\d.]+|Infinity))(?:$|[ ,])/);
    return leading ? Number(leading[1]) : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [asNumber(a), asNumber(b)];
    return Number.isNaN(x) || Number.isNaN(y) || x === y ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const text = (row) => row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(text(a), text(b)) * (descending ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  }

  for (const input of document.querySelectorAll("input[data-filters]")) {
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    const count = document.querySelector(`[data-count="${input.dataset.filters}"]`);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    });
  }

  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const show = (dark) => {
    theme.setAttribute("aria-pressed", String(dark));
    theme.textContent = dark ? "light" : "dark";
  };
  show(matchMedia("(prefers-color-scheme: dark)").matches);
  theme.addEventListener("click", () => {
    const dark = theme.getAttribute("aria-pressed") !== "true";
    root.dataset.theme = dark ? "dark" : "light";
    show(dark);
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
})();
