// One crosshair over all maps of a picture: point at a place in one, read its numbers in each.

let at = null; // where it stands, in pixels; kept when a finer map takes the place of a coarse one

const SVG = "http://www.w3.org/2000/svg";

const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function cells() {
  const tables = document.querySelectorAll("table.matrix");
  return [...tables].map((table) => ({
    title: table.parentElement.getAttribute("aria-label"),
    rows: [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1).map((cell) => cell.textContent)),
  }));
}

function start(panels) {
  const g = JSON.parse(panels.dataset.geometry);
  const maps = cells();
  const readout = document.getElementById("readout");
  const overlays = [...panels.querySelectorAll(".panel-pic")].map((pic) => {
    pic.tabIndex = 0;
    pic.setAttribute("role", "group");
    pic.setAttribute("aria-label", "Map; arrow keys move the crosshair");
    const svg = make("svg", { class: "cross", viewBox: `0 0 ${g.width} ${g.height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, pic);
    svg.toggleAttribute("hidden", true);
    return { pic, svg, across: make("line", { x1: 0, x2: g.width }, svg), down: make("line", { y1: 0, y2: g.height }, svg), box: make("rect", {}, svg) };
  });
  let row = Math.floor(g.rows / 2);
  let column = Math.floor(g.columns / 2);

  function put(y, x) {
    row = clamp(Math.round((y - g.size / 2 - g.top) / g.stride), g.rows);
    column = clamp(Math.round((x - g.size / 2 - g.left) / g.stride), g.columns);
    show();
  }

  function show() {
    const y0 = g.top + row * g.stride;
    const x0 = g.left + column * g.stride;
    const y = Math.min(Math.max(y0 + g.size / 2, 0), g.height);
    const x = Math.min(Math.max(x0 + g.size / 2, 0), g.width);
    for (const { svg, across, down, box } of overlays) {
      svg.toggleAttribute("hidden", false);
      for (const key of ["y1", "y2"]) across.setAttribute(key, y);
      for (const key of ["x1", "x2"]) down.setAttribute(key, x);
      for (const [key, value] of Object.entries({ x: x0, y: y0, width: g.size, height: g.size })) box.setAttribute(key, value);
    }
    at = { y: y0 + g.size / 2, x: x0 + g.size / 2 };
    const values = maps.map((map) => `${map.title}: ${map.rows[row]?.[column]}`);
    readout.textContent = `Occluder at y ${y0}, x ${x0} · ${values.join(" · ")}`;
  }

  for (const { pic } of overlays) {
    pic.addEventListener("pointermove", (event) => {
      const frame = pic.getBoundingClientRect();
      const y = ((event.clientY - frame.top) / frame.height) * g.height;
      const x = ((event.clientX - frame.left) / frame.width) * g.width;
      put(y, x);
    });
    pic.addEventListener("focus", show);
    pic.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      row = clamp(row + move[0], g.rows);
      column = clamp(column + move[1], g.columns);
      show();
    });
  }
  if (at) put(at.y, at.x);
}

function look() {
  const panels = document.getElementById("panels");
  if (!panels) at = null;
  else if (!panels.querySelector(".cross")) start(panels);
}

look();
document.addEventListener("swapped", look);
