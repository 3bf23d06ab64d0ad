"use strict";
(function () {
  const svg = document.querySelector("svg[data-total]");
  const total = Number(svg.dataset.total) || 1;
  const deepest = Number(svg.dataset.deepest);
  const ROW = 18, TOP = 64, CHAR = 6.6;
  const byId = (id) => svg.querySelector("#" + id);
  const details = byId("details"), matched = byId("matched"), reset = byId("reset"),
        flip = byId("flip"), search = byId("search");
  const frames = Array.from(svg.querySelectorAll(".f")).map((g) => {
    const label = g.querySelector("title").textContent;
    return {
      g, label, name: label.replace(/ \(\d+ samples?, [\d.]+%\)$/, ""),
      rect: g.querySelector("rect"), text: g.querySelector("text"),
      left: Number(g.dataset.l), count: Number(g.dataset.n), depth: Number(g.dataset.d),
    };
  });
  let width = 1200, zoomed = frames[0], query = "", flipped = false;
  svg.classList.add("live");

  function state() {
    const p = new URLSearchParams();
    if (zoomed !== frames[0]) p.set("zoom", zoomed.depth + "." + zoomed.left + "." + zoomed.count);
    if (query) p.set("search", query);
    if (flipped) p.set("flip", "1");
    const hash = p.toString();
    const address = hash ? "#" + hash : location.pathname + location.search;
    try { history.replaceState(null, "", address); } catch (e) { /* sandboxed */ }
  }

  function layout() {
    const scale = width / Math.max(zoomed.count, 1), end = zoomed.left + zoomed.count;
    for (const f of frames) {
      const inside = f.left >= zoomed.left && f.left + f.count <= end && f.depth >= zoomed.depth;
      const above = f.depth < zoomed.depth && f.left <= zoomed.left && f.left + f.count >= end;
      const w = above ? width : f.count * scale;
      const shown = (inside && w >= 0.3) || above;
      f.g.style.display = shown ? "" : "none";
      f.g.classList.toggle("dim", above);
      if (!shown) continue;
      const x = above ? 0 : (f.left - zoomed.left) * scale;
      const y = TOP + (flipped ? deepest - f.depth : f.depth) * ROW;
      f.rect.setAttribute("x", x.toFixed(2));
      f.rect.setAttribute("y", String(y));
      f.rect.setAttribute("width", Math.max(w - 0.4, 0.3).toFixed(2));
      const room = Math.floor((w - 6) / CHAR);
      const chars = Array.from(f.name);
      const cut = chars.length <= room ? f.name : chars.slice(0, room - 1).join("") + "…";
      const label = room < 3 ? "" : cut;
      if (label && !f.text) {
        f.text = document.createElementNS("http://www.w3.org/2000/svg", "text");
        f.g.appendChild(f.text);
      }
      if (f.text) {
        f.text.setAttribute("x", (x + 3).toFixed(2));
        f.text.setAttribute("y", String(y + 13));
        f.text.textContent = label;
      }
    }
    reset.style.visibility = zoomed === frames[0] ? "hidden" : "visible";
  }

  function zoom(f) { zoomed = f || frames[0]; layout(); state(); }

  function find(text) {
    query = text.slice(0, 200);
    let test = null;
    const lower = query.toLowerCase();
    if (query.length > 2 && query.startsWith("/") && query.endsWith("/")) {
      try { const re = new RegExp(query.slice(1, -1)); test = (n) => re.test(n); }
      catch (e) { matched.textContent = "invalid expression"; test = () => false; }
    } else if (query) {
      test = (n) => n.toLowerCase().includes(lower);
    }
    const spans = [];
    for (const f of frames) {
      const hit = !!test && f.depth > 0 && test(f.name);
      f.g.classList.toggle("hit", hit);
      if (hit) spans.push([f.left, f.left + f.count]);
    }
    spans.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    let sum = 0, at = -1;
    for (const [l, r] of spans) { if (r > at) { sum += r - Math.max(l, at); at = r; } }
    if (!test) matched.textContent = "";
    else if (matched.textContent !== "invalid expression" || spans.length)
      matched.textContent = "Matched: " + (100 * sum / total).toFixed(1) + "%";
    state();
  }

  function fit() {
    const seen = document.documentElement.clientWidth || window.innerWidth || 1200;
    width = Math.floor(Math.max(380, Math.min(4000, seen)));
    svg.setAttribute("width", String(width));
    svg.setAttribute("viewBox", "0 0 " + width + " " + svg.getAttribute("height"));
    const right = width - 440;
    byId("controls").setAttribute("transform", "translate(" + (right - 760) + ",0)");
    layout();
  }

  function neighbour(f, key) {
    const shown = frames.filter((o) => o.g.style.display !== "none");
    const toParent = flipped ? "ArrowDown" : "ArrowUp", toChild = flipped ? "ArrowUp" : "ArrowDown";
    const holds = (o, i) => o.left <= i.left && o.left + o.count >= i.left + i.count;
    if (key === toParent) return shown.find((o) => o.depth === f.depth - 1 && holds(o, f));
    if (key === toChild) {
      const below = shown.filter((o) => o.depth === f.depth + 1 && holds(f, o));
      return below.sort((a, b) => b.count - a.count)[0];
    }
    const row = shown.filter((o) => o.depth === f.depth).sort((a, b) => a.left - b.left);
    return row[row.indexOf(f) + (key === "ArrowRight" ? 1 : -1)];
  }

  let current = frames[0];
  function become_current(f) {
    current.g.removeAttribute("tabindex");
    current = f;
    f.g.setAttribute("tabindex", "0");
  }
  function focus(f) {
    if (!f) return;
    become_current(f);
    f.g.focus();
  }
  for (const f of frames) {
    f.g.addEventListener("mouseenter", () => { details.textContent = f.label; });
    // A click gives a frame the focus as well, and the arrow keys go on from there.
    f.g.addEventListener("focus", () => { details.textContent = f.label; become_current(f); });
    f.g.addEventListener("click", () => zoom(f));
  }
  frames[0].g.setAttribute("tabindex", "0");
  reset.addEventListener("click", () => zoom(null));
  const turn = () => { flipped = !flipped; layout(); state(); };
  flip.addEventListener("click", turn);
  search.addEventListener("input", () => { matched.textContent = ""; find(search.value); });
  document.addEventListener("keydown", (e) => {
    if (e.target === search) {
      if (e.key === "Escape") { search.value = ""; find(""); search.blur(); }
      return;
    }
    if (e.key === "/") { e.preventDefault(); search.focus(); }
    else if (e.key === "Escape") { zoom(null); }
    else if (e.key === "Enter") {
      if (e.target === reset) zoom(null);
      else if (e.target === flip) turn();
      else if (e.target === current.g) zoom(current);
    } else if (e.key.startsWith("Arrow") && e.target === current.g) {
      e.preventDefault();
      focus(neighbour(current, e.key));
    }
  });
  window.addEventListener("resize", fit);
  const p = new URLSearchParams(location.hash.slice(1));
  const wanted = p.get("zoom");
  if (wanted)
    zoomed = frames.find((f) => f.depth + "." + f.left + "." + f.count === wanted) || frames[0];
  flipped = p.get("flip") === "1";
  fit();
  if (p.get("search")) { search.value = p.get("search").slice(0, 200); find(search.value); }
})();
