// A change of the occluder redraws the maps in place; the URL follows.
import { say, swap } from "./swap.js";

const form = document.getElementById("occluder");
const upload = document.getElementById("drop");

async function redraw() {
  upload.elements.model.value = form.elements.model.value;
  if (!form.elements.image.value || !form.reportValidity()) return;
  const query = new URLSearchParams(new FormData(form));
  const target = new URL(window.location.href).searchParams.get("target");
  if (target && form.elements.model.value === new URL(window.location.href).searchParams.get("model")) {
    query.set("target", target);
  }
  const url = `${form.action}?${query}`;
  window.history.replaceState({}, "", url);
  const parts = document.getElementById("samples") ? ["#lab-main", "#samples"] : ["#lab-main"];
  if (await swap(url, ...parts)) say("The maps are redrawn");
}

form.addEventListener("change", redraw);
form.addEventListener("submit", (event) => {
  if (!form.elements.image.value) return;
  event.preventDefault();
  redraw();
});
