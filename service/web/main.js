// The frame around the views: which one is shown, who is signed in, whether the service answers.

import { getJson, learnCaller, session, signIn, signOut } from "./api.js";
import { button, el, field, problemBox, put, say } from "./dom.js";
import { galleryView } from "./gallery.js";
import { modelView } from "./model.js";
import { searchAddress, searchView } from "./search.js";

const VIEWS = {
  search: { show: searchView, title: "Search" },
  gallery: { show: galleryView, title: "Gallery" },
  model: { show: modelView, title: "Model" },
};
const AGAIN_MS = 3000;

const view = document.getElementById("view");
const banner = document.getElementById("banner");
const keyButton = document.getElementById("key");
let leaving = null;

/** Show the view that the address names. */
function show() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const name = VIEWS[path] ? path : "search";
  leaving?.abort();
  leaving = new AbortController();
  document.title = `${VIEWS[name].title} – Person search`;
  document.querySelectorAll("nav a").forEach((link) => {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  document.querySelector("nav a[data-view=search]").href = name === "search" ? "#/search" : searchAddress();
  drawKey();
  if (!session.may("search") && !(name === "gallery" && session.may("ingest"))) {
    put(view, session.caller.name ? notAllowed() : signInForm());
    return;
  }
  VIEWS[name].show(view, new URLSearchParams(query || ""), { signal: leaving.signal });
}

function notAllowed() {
  return el("div", { class: "empty" }, el("h2", {}, "Your key does not allow this"),
    el("p", {}, `The key ${session.caller.name} has the scopes ${session.caller.scopes.join(", ") || "none"}; searching needs search.`),
    button("Sign in with another key", leave));
}

function drawKey() {
  const { keys, name } = session.caller;
  keyButton.hidden = !keys || !name;
  keyButton.textContent = name ? `${name} · Sign out` : "";
}

function signInForm(problem) {
  const secret = el("input", { type: "password", autocomplete: "off", required: true, spellcheck: "false", name: "secret" });
  const told = el("div", {}, problem && problemBox(problem));
  return el("form", {
    class: "sign-in",
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        await signIn(secret.value.trim());
        say("Signed in.");
        show();
      } catch (failed) {
        put(told, problemBox(failed));
        secret.select();
      }
    },
  }, el("h1", {}, "Sign in"),
  el("p", {}, "This service needs an API key. The key stays in this tab until you close it."),
  field("API key", secret), told,
  el("div", { class: "row" }, el("button", { type: "submit", class: "main" }, "Sign in")));
}

async function leave() {
  await signOut();
  show();
}

/** What keeps the service from answering as it should; null when nothing does. */
function hindrance(checks) {
  const { index, disk, model, jobs } = checks;
  if (!model.ok) return "The model is not running. The service's log may say why.";
  if (!index.ok) return `Loading the index: ${index.done.toLocaleString("en")} of ${index.total.toLocaleString("en")} changes.`;
  if (!disk.ok) return "The disk is full: nothing can be added until you free some space. Searching and deleting still work.";
  return jobs.ok ? null : "Jobs do not run. The service's log may say why.";
}

let watching = null;
function watch(delay) {
  clearTimeout(watching);
  watching = setTimeout(look, delay);
}

async function look() {
  try {
    const { checks } = await getJson("/health");
    const text = hindrance(checks);
    put(banner, text ? el("p", {}, text) : "");
    watch(text ? AGAIN_MS : 30000);
  } catch { watch(AGAIN_MS); }
}

session.addEventListener("unreachable", () => {
  put(banner, el("p", { class: "busy" }, "The service does not answer. It may still be starting, or it is stopped. Trying again …"));
  watch(AGAIN_MS);
});
session.addEventListener("reachable", async () => {
  put(banner);
  say("The service is back.");
  if (!started) { start(); return; }
  if (view.querySelector(".problem")) show();
});
session.addEventListener("unauthenticated", () => {
  if (!session.caller.name) return;
  session.caller = { keys: true, name: null, scopes: [] };
  show();
});

let started = false;
async function start() {
  try {
    await learnCaller();
  } catch (problem) {
    put(view, problemBox(problem, { retry: start }));
    return;
  }
  if (!started) addEventListener("hashchange", show);
  started = true;
  show();
  watch(0);
}

keyButton.addEventListener("click", leave);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); view.focus(); });
start();
