"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [alphabet, perDecade, decadesBelow] = data.levels;
  const byId = (id) => document.getElementById(id);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const rows = data.status.map((_, i) => byId("t" + i));
  const nameOf = (i) => rows[i].cells[0].textContent;

  const HINT = "Point at a cell or move to it to read it here.";

  // --- words -----------------------------------------------------------------------------------

  const number = (x) => (x === "∞" ? Infinity : x);

  function units(x) {
    if (x === null || x === undefined) return "unknown";
    const value = number(x);
    if (value === Infinity) return "wrong, where honest runs are exact";
    return `${Number(value.toPrecision(3))} floor units`;
  }

  function step(x) {
    if (x === null || x === undefined) return "cx";
    return "c" + data.steps.filter((bound) => number(x) > bound).length;
  }

  function short(x) {
    const value = number(x);
    if (value === null) return "";
    if (value === Infinity) return "∞";
    if (value === 0) return "0";
    if (value < 0.095) return "<.1";
    if (value < 999.5) return value < 9.95 ? value.toFixed(1) : value.toFixed(0);
    return value.toExponential(0).replace("+", "");
  }

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made) made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  // A dotted name that may be broken after a dot.
  function breakable(name) {
    return name.split(/(?<=[._])/).flatMap((word) => [word, element("wbr")]);
  }

  function drawn(tag, attributes, content = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = content;
    return made;
  }

  // --- grids: one stop for the tab key, arrows inside ---------------------------------------------

  const MOVES = {
    ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0],
    Home: [0, -Infinity], End: [0, Infinity], PageUp: [-10, 0], PageDown: [10, 0],
  };

  // ``lines`` holds for each line of the grid its cells, null where there is none.
  function grid(lines, start, onFocus) {
    const places = new Map();
    lines.forEach((line, y) => line.forEach((cell, x) => cell && places.set(cell, [y, x])));
    let current = start;
    for (const cell of places.keys()) cell.tabIndex = cell === current ? 0 : -1;

    function stop(cell) {
      current.tabIndex = -1;
      current = cell;
      cell.tabIndex = 0;
    }

    function edge(cells, sign) {
      const there = cells.filter(Boolean);
      return sign < 0 ? there[0] : there[there.length - 1];
    }

    function target(cell, key, control) {
      const [y, x] = places.get(cell);
      const [down, right] = MOVES[key];
      if (!Number.isFinite(right)) {
        if (control) return edge(lines.flat(), right);
        return edge(lines[y], right);
      }
      const steps = Math.abs(down + right);
      let found = cell;
      for (let at = [y, x], n = 0; n < steps; ) {
        at = [at[0] + Math.sign(down), at[1] + Math.sign(right)];
        if (at[0] < 0 || at[0] >= lines.length || at[1] < 0 || at[1] >= lines[y].length) break;
        const next = lines[at[0]][at[1]];
        if (next) { found = next; n += 1; }
      }
      return found;
    }

    return {
      focus(cell) { stop(cell); onFocus(cell); cell.focus(); },
      key(event) {
        const cell = event.target.closest("td")?.querySelector("a") ?? event.target.closest("td");
        if (!(event.key in MOVES) || event.altKey || event.metaKey || !places.has(cell)) return;
        event.preventDefault();
        this.focus(target(cell, event.key, event.ctrlKey));
      },
      enter(cell) { if (places.has(cell)) { stop(cell); onFocus(cell); } },
    };
  }

  // --- the maps ------------------------------------------------------------------------------------

  const links = new Map(); // number of a value -> its link in a map
  const gridOf = new Map();
  const layerOf = new Map();
  let by = "worse";

  function told(i) {
    const layer = layerOf.get(i);
    const words = [nameOf(i), data.status[i]];
    if (data.total[i] !== null) words.push(units(data.total[i]));
    if (data.introduced[i] !== null) words.push(`${units(data.introduced[i])} introduced here`);
    if (i === data.first) words.push("the first that parts");
    return (layer ? `layer ${layer}, ` : "") + words.join(", ");
  }

  function label(i) {
    links.get(i).setAttribute("aria-label", told(i));
    byId("readout").textContent = told(i);
  }

  function setUpMap(table) {
    table.setAttribute("role", "grid");
    const heads = table.tHead ? [...table.tHead.rows[0].cells].map((cell) => cell.textContent) : [];
    const lines = [...table.tBodies[0].rows].map((row) =>
      [...row.cells].slice(1).map((cell, x) => {
        const link = cell.firstElementChild;
        if (!link) return null;
        const i = Number(link.hash.slice(2));
        links.set(i, link);
        layerOf.set(i, heads[x + 1]);
        link.dataset.i = i;
        link.setAttribute("aria-label", told(i));
        return link;
      }));
    const cells = lines.flat().filter(Boolean);
    const start = cells.find((cell) => Number(cell.dataset.i) === data.first) ?? cells[0];
    const made = grid(lines, start, (cell) => label(Number(cell.dataset.i)));
    for (const cell of cells) gridOf.set(Number(cell.dataset.i), made);
    table.addEventListener("keydown", (event) => made.key(event));
    table.addEventListener("focusin", (event) => made.enter(event.target.closest("a")));
    table.addEventListener("pointerover", (event) => {
      const link = event.target.closest("td")?.querySelector("a");
      if (link) label(Number(link.dataset.i));
    });
    table.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link) return;
      event.preventDefault();
      open(Number(link.dataset.i), true);
    });
  }

  function colour() {
    for (const [i, link] of links) {
      const value = data[by][i];
      const cell = link.parentElement;
      cell.className = step(value) + (i === data.first ? " first" : "");
      const [glyph, status] = [data.glyphs[data.status[i]], data.status[i]];
      const alone = !short(value) || cell.closest(".wide-map") || !["OK", "ROUNDING", "DIFF"].includes(status);
      link.textContent = alone ? glyph : (status === "OK" ? "" : glyph) + short(value);
    }
  }

  // --- one tap ---------------------------------------------------------------------------------------

  let opened = null;

  function open(i, move) {
    if (opened !== null) {
      links.get(opened)?.classList.remove("open");
      rows[opened].classList.remove("open");
    }
    opened = i;
    links.get(i)?.classList.add("open");
    rows[i].classList.add("open");
    byId("tap").hidden = false;
    byId("tap-title").replaceChildren(element("code", {}, ...breakable(nameOf(i))));
    byId("tap-body").replaceChildren(facts(i), ...picture(i));
    if (move) {
      byId("tap-title").focus({ preventScroll: true });
      byId("tap").scrollIntoView({ block: "start" });
    }
  }

  function facts(i) {
    const heads = all("#table thead th").map((cell) => cell.textContent);
    const list = element("dl", { className: "facts" });
    [...rows[i].cells].forEach((cell, n) => {
      if (n === 0 || !cell.textContent.trim()) return;
      const long = cell.textContent.length > 40 ? "long" : "";
      list.append(element("div", { className: long },
        element("dt", {}, heads[n]), element("dd", {}, cell.textContent)));
    });
    return list;
  }

  function picture(i) {
    const entry = data.taps[i];
    if (!entry) return [element("p", {}, "There are no elements to compare.")];
    const shape = shapeOf(entry);
    const [exact, , , size] = entry[5];
    const ids = entry[2][3];
    const elements = ids ? [element("p", {}, `${size - exact} of ${size} differ.`)] : histogram(entry);
    return [...cellsOf(entry, shape), ...elements];
  }

  function shapeOf(entry) {
    const [[lines, columns, down, across, parts], [part, along]] = [entry[1], entry[2]];
    const height = Math.ceil(lines / down), width = Math.ceil(columns / across);
    const span = (first, size, end) => (size > 1 ? `${first}–${Math.min(first + size, end) - 1}` : `${first}`);
    function line(y) {
      const [a, b] = [y * down, Math.min((y + 1) * down, lines) - 1];
      const row = span(Math.floor(a / parts), Math.floor(b / parts) - Math.floor(a / parts) + 1, Infinity);
      if (along !== "position") return "";
      if (!part) return `row ${row}`;
      if (Math.floor(a / parts) !== Math.floor(b / parts)) return `row ${row}`;
      return `row ${row}, ${part} ${span(a % parts, b - a + 1, parts)}`;
    }
    function column(x) {
      return along ? `${along} ${span(x * across, across, columns)}` : "the value";
    }
    function position(y, x) {
      const row = data.positions[Math.floor((y * down) / parts)];
      if (along !== "position" || across > 1 || down > parts || !row || columns !== row.length) return "";
      return ` (${row[x]})`;
    }
    const where = (y, x) => [line(y), column(x) + position(y, x)].filter(Boolean).join(", ");
    return { lines, columns, down, across, parts, part, along, height, width, line, where };
  }

  // The middle of a level; the text is written so that the multiplier is a border.
  function value(letter) {
    const level = alphabet.indexOf(letter);
    if (level === 0) return 0;
    if (level === alphabet.length - 1) return Infinity;
    return data.multiplier * 10 ** ((level - 0.5) / perDecade - decadesBelow);
  }

  function cellsOf(entry, shape) {
    const worst = entry[3];
    const full = shapeOf([null, [shape.lines, shape.columns, 1, 1, shape.parts], entry[2]]);
    const title = entry[2][2] ? "Worst cells, by what is introduced here" : "Worst cells";
    const said = worst.length
      ? [element("h3", {}, title), element("ol", {}, ...worst.map(([y, x, u]) =>
        element("li", {}, `${full.where(y, x)}: ${units(u)}`)))]
      : [element("p", {}, "No cell has any error.")];
    if (!entry[0]) return said;
    const merged = shape.down * shape.across > 1
      ? ` To keep this file small a cell stands for ${shape.down} × ${shape.across} (lines × columns) and shows the largest of them.`
      : "";
    const lines = shape.part ? `a line for each row and ${shape.part}` : "a line for each row";
    const explained = element("p", {},
      `${entry[2][2] ? "What is introduced here" : "The error so far"}, in floor units: ${shape.along === "position" ? lines + ", a column for each position" : "a cell for each row"}; ` +
      `the shades are those of the map, ✕ is beyond rounding.${merged}`);
    const readout = element("p", { className: "readout", "aria-hidden": "true" }, HINT);
    return [...said, element("h3", {}, "Cells"), explained, readout, cellGrid(entry[0], shape, readout)];
  }

  function cellGrid(letters, shape, readout) {
    const body = element("tbody");
    const lines = [];
    const rowsPerBatch = Math.max(1, Math.floor(shape.parts / shape.down));
    for (let y = 0; y < shape.height; y += 1) {
      const batch = shape.part && y > 0 && y % rowsPerBatch === 0;
      const row = element("tr", { className: batch ? "batch" : "" }, element("th", { scope: "row" }, shape.line(y)));
      const cells = [];
      for (let x = 0; x < shape.width; x += 1) {
        const amount = value(letters[y * shape.width + x]);
        const cell = element("td", { className: step(amount), tabIndex: -1 }, amount > data.multiplier ? "✕" : "");
        cell.spot = [y, x, amount];
        cells.push(cell);
      }
      row.append(...cells);
      body.append(row);
      lines.push(cells);
    }
    const tell = (cell) => {
      const [y, x, amount] = cell.spot;
      const finite = Number.isFinite(amount);
      const about = amount === 0 ? "next to nothing" : finite ? `about ${units(amount)}` : "beyond measure";
      const beyond = finite && amount > data.multiplier ? ", beyond rounding" : "";
      readout.textContent = `${shape.where(y, x)}: ${about}${beyond}`;
      cell.setAttribute("aria-label", readout.textContent);
    };
    const heads = element("tr", {}, element("td"));
    const every = Math.max(1, Math.ceil(shape.width / 32) * (shape.width > 8 ? 4 : 1));
    for (let x = 0; x < shape.width; x += every) {
      heads.append(element("th", { scope: "col", colSpan: Math.min(every, shape.width - x) }, String(x * shape.across)));
    }
    const few = shape.width <= 24 && shape.height <= 24 ? " few" : "";
    const table = element("table", { className: "cells" + few, role: "grid", "aria-label": "Cells" },
      element("thead", {}, heads), body);
    if (lines.length && lines[0].length) {
      const made = grid(lines, lines[0][0], tell);
      table.addEventListener("keydown", (event) => made.key(event));
      table.addEventListener("focusin", (event) => made.enter(event.target));
      table.addEventListener("pointerover", (event) => {
        if (event.target.spot) tell(event.target);
      });
    }
    return element("div", { className: "wide tall" }, table);
  }

  function histogram(entry) {
    const [exact, beyondFloor, beyondLimit, size] = entry[5];
    if (!size) return [];
    const share = (n) => (n ? `${((100 * n) / size).toPrecision(3)} %` : "none");
    const words = `Of ${size.toLocaleString("en")} elements ${share(beyondFloor)} are beyond the largest error of any ` +
      `element of an honest run, ${share(beyondLimit)} beyond ${data.multiplier} times that; ${share(exact)} are exact.`;
    const counts = [...entry[4]].map((letter) => 2 ** (alphabet.indexOf(letter) / 3) - 1);
    const used = counts.map((n, i) => (n > 0 ? i : -1)).filter((i) => i >= 0);
    const said = element("p", {}, words);
    if (!used.length) return [element("h3", {}, "Elements"), said];
    return [element("h3", {}, "Elements"), said,
      element("div", { className: "wide" }, bars(counts, used[0], used[used.length - 1], words))];
  }

  function bars(counts, least, most, words) {
    const [perBin, decades] = data.bins;
    const middle = perBin * decades;
    const first = perBin * Math.floor(Math.min(least, middle - perBin) / perBin);
    const last = perBin * Math.ceil((Math.max(most, middle + perBin) + 1) / perBin);
    const [width, height, base] = [420, 220, 170];
    const x = (bin) => 16 + ((width - 40) * (bin - first)) / (last - first);
    const top = Math.log10(1 + Math.max(...counts));
    const y = (n) => base - ((base - 20) * Math.log10(1 + n)) / top;
    const picture = drawn("svg", { class: "bars", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
    for (let bin = first; bin < last; bin += 1) {
      if (counts[bin] < 0.5) continue;
      picture.append(drawn("rect", { class: "bar", x: x(bin) + 0.5, y: y(counts[bin]),
        width: x(bin + 1) - x(bin) - 1, height: base - y(counts[bin]) }));
    }
    const every = perBin * Math.max(1, Math.ceil((last - first) / perBin / 8));
    picture.append(drawn("path", { d: `M${x(first)} ${base}H${x(last)}` }));
    for (let bin = first; bin <= last; bin += every) {
      const power = (bin - middle) / perBin;
      const text = Math.abs(power) < 4 ? String(Number((10 ** power).toPrecision(1))) : `1e${power}`;
      picture.append(drawn("text", { class: "middle", x: x(bin), y: base + 18 }, text));
    }
    for (const [at, name, raise] of [[1, "floor", 16], [data.multiplier, "rounding ends", 4]]) {
      const line = x(middle + perBin * Math.log10(at));
      picture.append(drawn("path", { class: "first", d: `M${line} ${raise}V${base}` }));
      picture.append(drawn("text", at === 1 ? { class: "end", x: line - 4, y: 14 } : { x: line + 4, y: 14 }, name));
    }
    picture.append(drawn("text", { x: 16, y: base + 40 }, "error of an element in floor units; height: log of the count"));
    return picture;
  }

  // --- the table ---------------------------------------------------------------------------------------

  function filter() {
    const wanted = new Set(all("input[name=status]:checked").map((box) => box.value));
    const search = byId("search").value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, i) => {
      const show = wanted.has(data.status[i]) && nameOf(i).toLowerCase().includes(search);
      row.hidden = !show;
      shown += show;
    });
    byId("shown").textContent = `${shown} of ${rows.length} shown`;
  }

  // --- keys --------------------------------------------------------------------------------------------

  const PARTS = new Set(["DIFF", "SHAPE", "DTYPE", "NAN"]);

  function go(i) {
    if (i === null || i === undefined || i < 0) return;
    gridOf.get(i).focus(links.get(i));
    open(i, false);
  }

  function neighbour(direction) {
    const parting = data.status.map((status, i) => (PARTS.has(status) ? i : -1)).filter((i) => i >= 0);
    const focused = document.activeElement?.dataset?.i;
    const from = focused === undefined ? opened ?? -1 : Number(focused);
    if (direction > 0) return parting.find((i) => i > from);
    return parting.reverse().find((i) => i < from);
  }

  function shortcut(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target.closest("#tap") && opened !== null) {
      gridOf.get(opened).focus(links.get(opened));
      return;
    }
    const typing = event.target.matches("input[type=search]");
    if (typing || !byId("shortcuts").checked) return;
    const actions = {
      f: () => go(data.first),
      n: () => go(neighbour(1)),
      p: () => go(neighbour(-1)),
      "/": () => byId("search").focus(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  // --- start --------------------------------------------------------------------------------------------

  byId("readout").textContent = HINT;
  all(".js").forEach((part) => { if (part.id !== "tap") part.hidden = false; });
  all(".map").forEach(setUpMap);
  all("input[name=by]").forEach((choice) => choice.addEventListener("change", () => {
    by = choice.value;
    colour();
    if (opened !== null) links.get(opened)?.classList.add("open");
  }));
  all("input[name=status]").forEach((box) => box.addEventListener("change", filter));
  byId("search").addEventListener("input", filter);
  byId("to-first")?.addEventListener("click", (event) => {
    event.preventDefault();
    open(data.first, true);
  });
  document.addEventListener("keydown", shortcut);
  filter();
  const worst = data.worse.reduce((a, u, i) => (u !== null && (a < 0 || number(u) > number(data.worse[a])) ? i : a), -1);
  const start = data.first ?? worst;
  if (start >= 0) {
    open(start, false);
    const scrolled = links.get(start).closest(".wide");
    scrolled.scrollLeft = links.get(start).offsetLeft - scrolled.clientWidth / 2;
  }
})();
