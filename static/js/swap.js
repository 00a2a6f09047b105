// Fetch a page and put some of its elements in the place of ours.

let latest = 0;

/** The same version: only what ticks has changed, and a button under the pointer stays. */
function tick(part, fresh) {
  const old = part.querySelectorAll("[data-tick]");
  const now = fresh.querySelectorAll("[data-tick]");
  for (const [place, element] of old.entries()) element.replaceWith(document.adoptNode(now[place]));
}

/** Opened details stay open, and the focus stays where it was. */
function replace(part, fresh) {
  for (const open of part.querySelectorAll("details[id][open]")) {
    fresh.querySelector(`#${open.id}`)?.setAttribute("open", "");
  }
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.replaceWith(document.adoptNode(fresh));
  return focused;
}

/**
 * Replaces what the selectors name by the same of the page at `url`.
 * @returns {Promise<boolean>} false if it was overtaken by a later call, or had to load the page.
 */
export async function swap(url, ...selectors) {
  const turn = ++latest;
  const old = selectors.map((selector) => document.querySelector(selector));
  for (const part of old) if (!part?.querySelector("[data-live]")) part?.setAttribute("aria-busy", "true");
  const response = await fetch(url, { headers: { Accept: "text/html" } });
  const text = await response.text();
  if (turn !== latest) return false;
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = selectors.map((selector) => page.querySelector(selector));
  if (!response.ok || fresh.includes(null) || old.includes(null)) {
    window.location.assign(url);
    return false;
  }
  let focused = "";
  for (const [place, part] of old.entries()) {
    const { version } = fresh[place].dataset;
    if (version && version === part.dataset.version && fresh[place].querySelector("[data-live]")) tick(part, fresh[place]);
    else focused ||= replace(part, fresh[place]);
  }
  document.dispatchEvent(new CustomEvent("swapped"));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  return true;
}

/** Tell a screen reader. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
