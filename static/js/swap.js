// Fetch a page and put some of its elements in the place of ours.

let latest = 0;

/**
 * Replaces what the selectors name by the same of the page at `url`.
 * @returns {Promise<boolean>} false if it was overtaken by a later call, or had to load the page.
 */
export async function swap(url, ...selectors) {
  const turn = ++latest;
  const old = selectors.map((selector) => document.querySelector(selector));
  for (const part of old) part?.setAttribute("aria-busy", "true");
  const response = await fetch(url, { headers: { Accept: "text/html" } });
  const text = await response.text();
  if (turn !== latest) return false;
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = selectors.map((selector) => page.querySelector(selector));
  if (!response.ok || fresh.includes(null) || old.includes(null)) {
    window.location.assign(url);
    return false;
  }
  for (const [place, part] of old.entries()) part.replaceWith(document.adoptNode(fresh[place]));
  document.dispatchEvent(new CustomEvent("swapped"));
  return true;
}

/** Tell a screen reader. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
