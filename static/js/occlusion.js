// A change of the occluder redraws the maps in place; the URL follows.
import { say, swap } from "./swap.js";

const form = document.getElementById("occluder");
const upload = document.getElementById("drop");

async function redraw(event) {
  if (event.target.name === "model") {
    upload.elements.model.value = event.target.value;
    form.elements.target.value = ""; // another network has other classes
  }
  if (!form.elements.image.value || !form.reportValidity()) return;
  const query = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  const url = `${form.action}?${query}`;
  window.history.replaceState({}, "", url);
  const stop = document.getElementById("stop"); // what was under way is no longer wanted
  if (stop) fetch(stop.action, { method: "POST", body: new URLSearchParams(new FormData(stop)), redirect: "manual" }).catch(() => {});
  const parts = document.getElementById("samples") ? ["#occlusion-main", "#samples"] : ["#occlusion-main"];
  if (await swap(url, ...parts)) say("The maps are redrawn");
}

form.addEventListener("change", redraw);
form.addEventListener("submit", (event) => {
  if (!form.elements.image.value) return;
  event.preventDefault();
  redraw(event);
});
