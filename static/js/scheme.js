// Runs before the first paint, so that a chosen colour scheme never flashes the other one, and
// nothing moves that a script makes needless.
(() => {
  const order = ["", "light", "dark"];
  const names = { "": "automatic", light: "light", dark: "dark" };
  const root = document.documentElement;
  const read = () => {
    try { return localStorage.getItem("scheme") ?? ""; } catch { return ""; }
  };
  const apply = (scheme) => {
    if (scheme) root.dataset.scheme = scheme;
    else delete root.dataset.scheme;
  };
  root.classList.add("js");
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("scheme");
    let scheme = read();
    const label = () => {
      button.setAttribute("aria-label", `Colour scheme: ${names[scheme]}`);
      button.title = `Colour scheme: ${names[scheme]}`;
    };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      scheme = order[(order.indexOf(scheme) + 1) % order.length];
      apply(scheme);
      label();
      try { localStorage.setItem("scheme", scheme); } catch { /* private mode: for this page only */ }
    });
  });
})();
