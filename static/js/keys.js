// Single keys follow what the page declares with aria-keyshortcuts. They can be switched off
// in the help, and never act while somebody is typing.

const typing = (element) =>
  element.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName);

export const shortcuts = {
  get on() {
    try { return localStorage.getItem("keys") !== "off"; } catch { return true; }
  },
  set on(value) {
    try { localStorage.setItem("keys", value ? "on" : "off"); } catch { /* this page only */ }
  },
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!shortcuts.on || typing(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key === '"' || event.key === "\\" || event.key.length > 1) return;
  const target = document.querySelector(`[aria-keyshortcuts="${event.key}"]`);
  if (!target) return;
  event.preventDefault();
  if (target.matches("input")) {
    target.focus();
    target.select();
  } else {
    target.click();
  }
});
