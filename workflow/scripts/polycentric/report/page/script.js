"use strict";
document.querySelectorAll("table.sort").forEach((table) => {
  const value = (row, k) => { const text = row.cells[k].textContent.replace(/\u202f/g, "").replace("−", "-").trim(); const n = parseFloat(text); return text !== "" && !isNaN(n) ? n : text; };
  table.querySelectorAll("thead th").forEach((head, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending", body = table.tBodies[0];
      table.querySelectorAll("th").forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      [...body.rows].sort((a, b) => {
        const x = value(a, k), y = value(b, k);
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -order : order;
      }).forEach((row) => body.append(row));
    });
  });
});
const box = document.getElementById("zoom");
document.querySelectorAll("figure button.zoom").forEach((button) => button.addEventListener("click", () => {
  const image = button.querySelector("img"), large = box.querySelector("img");
  large.src = image.src; large.alt = image.alt;
  box.showModal();
}));
box.addEventListener("click", () => box.close());
const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const seen = new IntersectionObserver((entries) => entries.forEach((e) => {
  if (!e.isIntersecting || !links.has(e.target.id)) return;
  links.forEach((a) => a.removeAttribute("aria-current"));
  links.get(e.target.id).setAttribute("aria-current", "true");
}), { rootMargin: "-10% 0px -80% 0px" });
document.querySelectorAll("section[id], article[id]").forEach((s) => seen.observe(s));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
