// The layer grid: controls apply at once, j and k walk over the tiles, p turns them over.
import { say, swap } from "./swap.js";
import { shortcuts } from "./keys.js";

const TYPING_MS = 250;
let typing = 0;

async function go(url, push) {
  const at = document.activeElement?.id;
  const caret = document.activeElement?.selectionStart;
  if (!(await swap(url, "#layer"))) return;
  if (push) window.history.pushState({}, "", url);
  else window.history.replaceState({}, "", url);
  const again = at && document.getElementById(at);
  if (again) {
    again.focus();
    if (typeof caret === "number" && again.setSelectionRange) again.setSelectionRange(caret, caret);
  }
  say(document.getElementById("count")?.textContent ?? "No unit matches");
}

function address(form) {
  const query = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  const path = form.action.split("?")[0];
  return query.size ? `${path}?${query}` : path;
}

document.addEventListener("change", (event) => {
  if (event.target.matches("#controls select")) go(address(event.target.form), true);
});
document.addEventListener("input", (event) => {
  if (!event.target.matches("#q")) return;
  window.clearTimeout(typing);
  typing = window.setTimeout(() => go(address(event.target.form), false), TYPING_MS);
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("#controls")) return;
  event.preventDefault();
  window.clearTimeout(typing);
  go(address(event.target), true);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("#layer .views a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(link.href, true);
});
window.addEventListener("popstate", () => swap(window.location.href, "#layer"));

document.addEventListener("keydown", (event) => {
  const steps = { j: 1, k: -1 };
  const typed = event.target.matches("input, select, textarea");
  if (!(event.key in steps) || !shortcuts.on || typed) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const tiles = [...document.querySelectorAll("#grid .tile")];
  const at = tiles.indexOf(document.activeElement);
  const next = tiles[Math.max(0, Math.min(tiles.length - 1, at < 0 ? 0 : at + steps[event.key]))];
  next?.focus();
  event.preventDefault();
});
