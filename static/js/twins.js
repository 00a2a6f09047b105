// The job form spells the same job for curl and Python while it is being filled in.

const form = document.getElementById("job");
const curl = document.getElementById("twin-curl");
const python = document.getElementById("twin-python");
const kinds = new Map(
  [...form.elements].filter((e) => e.name.startsWith("params.")).map((e) => [e.name, e.type]),
);

function value(name, text) {
  const kind = kinds.get(name);
  if (kind === "number") return Number(text);
  if (kind === "checkbox") return text === "true";
  return text;
}

function body() {
  const data = new FormData(form);
  const params = {};
  for (const [name, kind] of kinds) {
    if (kind === "checkbox") params[name.slice(7)] = data.has(name);
    else if (data.get(name) !== "") params[name.slice(7)] = value(name, data.get(name));
  }
  const job = { model: data.get("model"), method: data.get("method"), params };
  const target = data.get("target").trim();
  if (target) job.target = /^\d+$/.test(target) ? { class: Number(target) } : { unit: target };
  job.inputs = { dataset: data.get("dataset"), glob: data.get("glob"), limit: Number(data.get("limit")) };
  return job;
}

const toPython = (json) =>
  json.replace(/(?<=[:[,]\s*)(true|false|null)\b/g, (word) => ({ true: "True", false: "False", null: "None" })[word]);

// What stands around the body, such as the address and the token, is as the server wrote it.
function show() {
  const json = JSON.stringify(body(), null, 2);
  curl.textContent = curl.textContent.replace(/(?<= -d ')[^]*(?='$)/, () => json.replaceAll("'", "'\\''"));
  python.textContent = python.textContent.replace(/(?<=^job = )[^]*(?=\npost = )/m, () => toPython(json));
}

form.addEventListener("input", show);
show();
