// While a part of the page says that it is still being made (data-live names the part), look again.
// A part with a data-version is replaced when that changes; until then, only its ticks are.
import { say, swap } from "./swap.js";

let timer = 0;

function busyWithin(selector) {
  const part = document.querySelector(selector);
  const active = document.activeElement;
  return part && active && active !== document.body && part.contains(active) && active.matches("input, select");
}

async function look() {
  const selector = document.querySelector("[data-live]")?.dataset.live;
  if (selector && !document.hidden && !busyWithin(selector)) {
    const before = document.querySelector(selector).dataset.version;
    try { await swap(window.location.href, selector); } catch { /* the server is away: go on */ }
    const now = document.querySelector(selector)?.dataset;
    if (now?.said && now.version !== before) say(now.said);
  }
  plan();
}

function plan() {
  window.clearTimeout(timer);
  const mark = document.querySelector("[data-live]");
  if (mark) timer = window.setTimeout(look, Number(mark.dataset.pause ?? 1000));
}

document.addEventListener("swapped", plan);
plan();
