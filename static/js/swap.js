// Fetch a page and put one of its elements in the place of ours.

let latest = 0;

/** Replaces `selector` by the same element of the page at `url`; false if it was overtaken. */
export async function swap(selector, url) {
  const turn = ++latest;
  const response = await fetch(url, { headers: { Accept: "text/html" } });
  const text = await response.text();
  if (turn !== latest) return false;
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.querySelector(selector);
  const old = document.querySelector(selector);
  if (!response.ok || !fresh || !old) {
    window.location.assign(url);
    return false;
  }
  old.replaceWith(document.adoptNode(fresh));
  document.dispatchEvent(new CustomEvent("swapped", { detail: selector }));
  return true;
}

/** Tell a screen reader. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
