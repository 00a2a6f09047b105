// The list of keys as a dialog; without a script the same list stands in the footer.
import { shortcuts } from "./keys.js";

const dialog = document.getElementById("help");
const opener = document.getElementById("help-open");
const keysOn = document.getElementById("keys-on");

opener.addEventListener("click", (event) => {
  event.preventDefault();
  dialog.showModal();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
keysOn.checked = shortcuts.on;
keysOn.addEventListener("change", () => { shortcuts.on = keysOn.checked; });
