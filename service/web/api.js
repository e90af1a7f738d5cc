// The service: requests, problems, the key of this tab, pictures that need it.

const KEY = "person-search-key";
const MOMENT_MS = 80;

/** Tells "unauthenticated", "unreachable" and "reachable". */
export const session = new EventTarget();
session.caller = { keys: false, name: null, scopes: [] };
session.may = (scope) => session.caller.scopes.includes(scope);

// Paths begin with /; a proxy may have the service below another path than that of its host.
const at = (path) => new URL(`.${path}`, document.baseURI);

const tell = (name) => session.dispatchEvent(new Event(name));
let reached = true;

/** An answer that says no, as its problem document puts it. */
export class Problem extends Error {
  constructor(document, status) {
    super(document.detail || document.title);
    Object.assign(this, { retryable: false }, document, { status });
  }
}

const unreachable = () => new Problem(
  { code: "unreachable", title: "The service does not answer",
    detail: "It may still be starting, it may be stopped, or the network is down.",
    retryable: true }, 0);

function headers(more = {}) {
  const secret = sessionStorage.getItem(KEY);
  return secret ? { Authorization: `Bearer ${secret}`, ...more } : more;
}

function reach(does) {
  if (does === reached) return;
  reached = does;
  tell(does ? "reachable" : "unreachable");
}

async function problemOf(answer) {
  let told = {};
  try { told = await answer.json(); } catch { /* a proxy's page, say */ }
  const problem = new Problem(
    told.code ? told : { title: `Status ${answer.status}`, detail: "The answer gives no reason." },
    answer.status);
  problem.retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  if (answer.status === 401) tell("unauthenticated");
  return problem;
}

/** The answer to a request. Throws Problem, or AbortError when the signal says so. */
export async function ask(method, path, { json, form, signal, more } = {}) {
  let answer;
  try {
    answer = await fetch(at(path), {
      method, signal, cache: "no-store",
      headers: headers({ ...(json && { "Content-Type": "application/json" }), ...more }),
      body: json ? JSON.stringify(json) : form,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    reach(false);
    throw unreachable();
  }
  reach(true);
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

export async function getJson(path, options) { return (await ask("GET", path, options)).json(); }
export async function postJson(path, json, options) {
  return (await ask("POST", path, { json, ...options })).json();
}

/** Who this tab is to the service. */
export async function learnCaller() {
  session.caller = await getJson("/whoami");
  return session.caller;
}

export async function signIn(secret) {
  sessionStorage.setItem(KEY, secret);
  const caller = await learnCaller();
  if (caller.keys && !caller.name) {
    sessionStorage.removeItem(KEY);
    throw new Problem({ code: "unauthenticated", title: "The service does not know this key",
      detail: "Check that you copied all of the secret, without the name and scopes in front of it." }, 401);
  }
}

export async function signOut() {
  sessionStorage.removeItem(KEY);
  thumbnails.clear();
  pictures.clear();
  return learnCaller();
}

/** Send one file; `onsent` is told the share that is on its way. With XMLHttpRequest, since fetch
 * does not tell how much was sent. */
export function sendFile(path, form, { onsent, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", at(path));
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onsent(event.loaded / event.total);
    request.onerror = () => { reach(false); reject(unreachable()); };
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    request.onload = () => {
      reach(true);
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* told below */ }
      if (request.status < 300) { resolve(told); return; }
      if (request.status === 401) tell("unauthenticated");
      const problem = new Problem(told.code ? told : { title: `Status ${request.status}` }, request.status);
      problem.retryAfter = Number(request.getResponseHeader("Retry-After")) || 0;
      reject(problem);
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Follow a job until it ends; `onjob` is told each state. Takes up the stream again when it breaks. */
export async function followJob(id, onjob, signal) {
  for (;;) {
    try {
      const answer = await ask("GET", `/jobs/${id}/events`, { signal });
      const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "", event = "";
      for (;;) {
        const { value, done } = await lines.read();
        if (done) break;
        text += value;
        const complete = text.split("\n");
        text = complete.pop();
        for (const line of complete) {
          if (line.startsWith("event: ")) event = line.slice(7);
          if (line.startsWith("data: ")) {
            onjob(JSON.parse(line.slice(6)));
            if (event === "end") return;
          }
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || (error instanceof Problem && error.status === 404)) return;
      if (error instanceof Problem && !error.retryable) throw error;
    }
    await new Promise((resolve) => { setTimeout(resolve, 2000); });
    if (signal?.aborted) return;
  }
}

/** Pictures by path, fetched with the key, the latest wanted first; the least recently used go. */
class Pictures {
  constructor(most, atOnce) {
    Object.assign(this, { most, atOnce, kept: new Map(), waiting: [], running: 0 });
  }

  /** The same after a moment, so that what is only scrolled past is not asked for. */
  showSoon(image, path) {
    if (this.kept.has(path)) return this.show(image, path);
    let stop = () => {};
    const timer = setTimeout(() => { stop = this.show(image, path); }, MOMENT_MS);
    return () => { clearTimeout(timer); stop(); };
  }

  /** Show a picture in an image as soon as it is here; the returned function says: no more. */
  show(image, path, onfailed) {
    let wanted = true;
    this.url(path, () => wanted).then(
      (url) => { if (wanted) image.src = url; },
      (problem) => { if (wanted) { image.classList.add("broken"); onfailed?.(problem); } });
    return () => { wanted = false; };
  }

  /** The blob URL of a picture. What nobody wants any more by its turn is not fetched. */
  url(path, wanted = () => true) {
    const kept = this.kept.get(path);
    if (kept) {
      this.kept.delete(path);
      this.kept.set(path, kept);
      return Promise.resolve(kept);
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ path, wanted, resolve, reject });
      this.#next();
    });
  }

  clear() {
    this.kept.forEach((url) => URL.revokeObjectURL(url));
    this.kept.clear();
  }

  async #next() {
    if (this.running >= this.atOnce) return;
    const task = this.waiting.pop();
    if (!task) return;
    if (!task.wanted()) { this.#next(); return; }
    this.running += 1;
    try {
      let url = this.kept.get(task.path);
      if (!url) {
        url = URL.createObjectURL(await (await ask("GET", task.path)).blob());
        this.kept.set(task.path, url);
        while (this.kept.size > this.most) {
          const [oldest, gone] = this.kept.entries().next().value;
          this.kept.delete(oldest);
          URL.revokeObjectURL(gone);
        }
      }
      task.resolve(url);
    } catch (error) {
      task.reject(error);
    } finally {
      this.running -= 1;
      this.#next();
    }
  }
}

export const thumbnails = new Pictures(400, 6);
export const pictures = new Pictures(12, 3);

const SHARP = window.devicePixelRatio > 1.3;
export const thumbnail = (id, size = SHARP ? 512 : 256) => `/gallery/images/${id}/thumbnail?size=${size}`;
export const cropPath = (id) => `/gallery/detections/${id}/crop`;
export const contentPath = (id) => `/gallery/images/${id}/content`;

const records = new Map();
/** The record of a scene; kept a while, for many views ask. */
export async function sceneRecord(id, { fresh = false } = {}) {
  if (fresh || !records.has(id)) {
    const asked = getJson(`/gallery/images/${id}`);
    records.set(id, asked);
    asked.catch(() => records.delete(id));
    if (records.size > 500) records.delete(records.keys().next().value);
  }
  return records.get(id);
}
export const forgetScene = (id) => records.delete(id);
