// A picture may also be dropped anywhere on the page, or pasted; choosing one is enough to send it.

const form = document.getElementById("drop");
const input = document.getElementById("file");
let depth = 0;

function send(files) {
  const picture = [...files].find((file) => file.type.startsWith("image/"));
  if (!picture) return;
  const held = new DataTransfer();
  held.items.add(picture);
  input.files = held.files;
  form.requestSubmit();
}

const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

document.addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  depth += 1;
  form.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!holdsFiles(event)) return;
  depth = Math.max(0, depth - 1);
  if (!depth) form.classList.remove("over");
});
document.addEventListener("dragover", (event) => {
  if (holdsFiles(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  depth = 0;
  form.classList.remove("over");
  send(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) send(event.clipboardData.files);
});
input.addEventListener("change", () => {
  if (input.files.length) form.requestSubmit();
});
