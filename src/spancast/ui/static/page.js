// Keyboard, copy buttons, confirmations, and the live list. The pages work without this file.
"use strict";
const rows = () => [...document.querySelectorAll("[data-row]")];
const linkOf = (row) => (row.matches("a") ? row : row.querySelector("a.name, a") || row);
let picked = null;

function move(step) {
  const all = rows();
  if (!all.length) return;
  const here = document.activeElement && document.activeElement.closest("[data-row]");
  const name = here ? here.dataset.row : picked;
  let at = all.findIndex((row) => row.dataset.row === name);
  if (at < 0) at = all.findIndex((row) => row.matches("[aria-current]"));
  const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
  const link = linkOf(next);
  if (!link.matches("a")) return;
  link.focus();
  picked = next.dataset.row;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, textarea");
  if (field) {
    if (event.key === "Escape") field.blur();
    return;
  }
  const tabs = document.querySelectorAll("[data-tab]");
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "u") location.assign(sessionStorage.getItem("list") || "/");
  else if (event.key === "/") document.querySelector("[data-search]").focus();
  else if (event.key === "?") document.getElementById("keys").showModal();
  else if (tabs[event.key - 1]) tabs[event.key - 1].click();
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const text = document.getElementById(copy.dataset.copy);
    getSelection().selectAllChildren(text);
    const done = () => { copy.textContent = "Copied"; };
    if (navigator.clipboard) navigator.clipboard.writeText(text.textContent).then(done, () => document.execCommand("copy") && done());
    else if (document.execCommand("copy")) done();
    return;
  }
  const confirmed = event.target.closest("[data-confirm]");
  if (confirmed && !confirm(confirmed.dataset.confirm)) event.preventDefault();
});

// Fields that are not used do not belong into the address.
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) {
      if (value === "" && !(form.action.endsWith("/totals") && name === "since")) event.formData.delete(name);
    }
  });
  for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => form.requestSubmit());
}

// The list is replaced only if it is in view and nothing is selected; otherwise a button says that there is more.
const fresh = document.getElementById("fresh");
if (fresh) {
  sessionStorage.setItem("list", location.pathname + location.search);
  let waiting = null;
  const known = () => new Set(rows().map((row) => row.dataset.row));
  const isReading = () => scrollY > 60 || getSelection().toString() !== "";
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "rows" || event.detail.xhr.status !== 200) return;
    if (isReading() && !waiting) {
      event.detail.shouldSwap = false;
      fresh.hidden = false;
    }
  });
  let before = known();
  let focused = null;
  document.body.addEventListener("htmx:beforeRequest", () => {
    before = known();
    const row = document.activeElement && document.activeElement.closest("[data-row]");
    focused = row && row.dataset.row;
  });
  document.body.addEventListener("htmx:afterSwap", () => {
    fresh.hidden = true;
    for (const row of rows()) {
      if (!before.has(row.dataset.row)) row.classList.add("arrived");
      if (row.dataset.row === focused) linkOf(row).focus({ preventScroll: true });
    }
  });
  fresh.addEventListener("click", () => { scrollTo(0, 0); location.reload(); });
}

// Another span of the same trace: only the right side is replaced, the tree stays where it is.
const tree = document.querySelector(".trace .tree");
if (tree && document.getElementById("call")) {
  const open = async (address, push) => {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    if (!answer.ok) return location.assign(address);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const call = page.getElementById("call");
    if (!call) return location.assign(address);
    document.getElementById("call").replaceWith(document.adoptNode(call));
    for (const link of tree.querySelectorAll("a")) {
      if (link.dataset.row === call.dataset.span) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    if (push) history.pushState(null, "", address);
    if (scrollY > tree.offsetTop && innerWidth > 760) scrollTo(0, tree.offsetTop);
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest(".tree a, [data-tab]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(link.href, true);
  });
  addEventListener("popstate", () => open(location.href, false));
  const current = tree.querySelector("[aria-current]");
  if (current && current.offsetTop > tree.clientHeight) tree.scrollTop = current.offsetTop - tree.clientHeight / 2;
}
