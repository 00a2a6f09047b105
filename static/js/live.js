// While a part of the page says that it is still being made (data-live names the part), look again.
import { swap } from "./swap.js";

const PAUSE_MS = 1000;

function busyWithin(selector) {
  const part = document.querySelector(selector);
  const active = document.activeElement;
  return part && active && active !== document.body && part.contains(active) && active.matches("input, select");
}

async function look() {
  const mark = document.querySelector("[data-live]");
  if (!mark) return;
  const selector = mark.dataset.live;
  if (!document.hidden && !busyWithin(selector)) {
    try { await swap(window.location.href, selector); } catch { /* the server is away: go on */ }
  }
  window.setTimeout(look, PAUSE_MS);
}

window.setTimeout(look, PAUSE_MS);
