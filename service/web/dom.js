// Elements, words and dialogs that all views share. Text goes through text nodes, never through HTML.

/** An element: properties (class, on…, dataset, or attributes), then children; null is left out. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name === "dataset") Object.assign(made.dataset, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...there(children));
  return made;
}

const there = (children) => children.flat(Infinity)
  .filter((child) => child !== null && child !== undefined && child !== false && child !== 0);

/** These children instead of all; null, false and 0 are left out. */
export function put(node, ...children) {
  node.replaceChildren(...there(children));
}

export const button = (text, onclick, properties = {}) =>
  el("button", { type: "button", onclick, ...properties }, text);

/** Words that people gave, of any script and direction, kept apart from ours. */
export const words = (text) => el("bdi", {}, text);

/** A label above a control. */
export const field = (label, control, hint) =>
  el("label", { class: "field" }, el("span", {}, label), control, hint && el("small", {}, hint));

export const number = (value) => value.toLocaleString("en");
export const decimal = (value, digits = 3) => value.toFixed(digits);
export const plural = (count, one, many = one + "s") => `${number(count)} ${count === 1 ? one : many}`;
export const percent = (value) => `${(value * 100).toFixed(1)} %`;

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value >= 100 || !unit ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
export const when = (text) => el("time", { datetime: text, title: text }, WHEN.format(new Date(text)));
export const whenText = (text) => WHEN.format(new Date(text));

const THIS_YEAR = new Date().getFullYear();
/** The same where there is little room: the year only when it is not this one. */
export function whenShort(text) {
  const time = new Date(text);
  return time.toLocaleString(undefined, {
    day: "numeric", month: "short", ...(time.getFullYear() !== THIS_YEAR && { year: "2-digit" }),
    hour: "2-digit", minute: "2-digit",
  });
}

/** How a picture is called: what its sender said, or else when it came. */
export function sceneName(image) {
  return image.external_id || (image.attributes && image.attributes.file) || `Scene …${image.id.slice(-6)}`;
}

/** Tell a screen reader, and only it. */
export function say(text) {
  const place = document.getElementById("say");
  place.textContent = place.textContent === text ? text + "\u00a0" : text;
}

/** A short message that goes away by itself. */
export function toast(text) {
  const shown = el("div", { class: "toast" }, text);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), 6000);
}

const ADVICE = {
  no_person_in_query: "Draw a box around the person, or take the whole picture.",
  detection_gone: "The model has changed. Open the scene and choose the person again.",
  generation_gone: "The model has changed. Search again.",
  not_found: "It may have been deleted meanwhile.",
  insufficient_scope: "Sign in with another key.",
  unreachable: "Check that the service is running. The page continues by itself.",
  insufficient_storage: "Free some disk space. Searching and deleting still work.",
  image_corrupt: "Check that the file opens in a picture viewer.",
  unsupported_image_format: "Save it as JPEG, PNG, WebP, AVIF, HEIC, BMP or TIFF.",
};

/** What went wrong, in the service's words, and what to do. */
export function problemBox(problem, { retry } = {}) {
  const known = problem.code && problem.code !== "unreachable";
  return el("div", { class: "problem", role: "alert" },
    el("strong", {}, problem.title || "Something went wrong"),
    el("p", {}, problem.detail || problem.message),
    ADVICE[problem.code] && el("p", {}, ADVICE[problem.code]),
    el("div", { class: "row" },
      retry && button("Try again", retry),
      known && el("a", { href: `docs/problems/${problem.code}`, target: "_blank", rel: "noopener" },
        "What this means"),
      problem.request_id && el("small", {}, `Request ${problem.request_id}`)));
}

/** A modal dialog; resolves when it is closed. `fill(close)` makes what is in it. */
export function openDialog(title, fill, { wide = false } = {}) {
  return new Promise((resolve) => {
    const heading = el("h2", { id: `h${Math.random().toString(36).slice(2)}` }, title);
    const box = el("dialog", { class: wide ? "wide" : "", "aria-labelledby": heading.id });
    const close = (value) => { box.returned = value; box.close(); };
    box.append(el("div", { class: "dialog-head" }, heading,
      button("×", () => close(), { class: "quiet close", "aria-label": "Close" })));
    box.append(...[fill(close, box)].flat());
    box.addEventListener("click", (event) => { if (event.target === box) close(); });
    box.addEventListener("close", () => { box.remove(); resolve(box.returned); });
    document.body.append(box);
    box.showModal();
  });
}

/** Ask before something that cannot be undone; true when it shall be done. */
export async function confirmed(title, lines, action) {
  const answer = await openDialog(title, (close) => [
    ...lines.map((line) => el("p", {}, line)),
    el("div", { class: "row end" },
      button("Cancel", () => close(false), { autofocus: true }),
      button(action, () => close(true), { class: "danger" })),
  ]);
  return answer === true;
}

/** Arrow keys move the focus among the buttons of a place. Tab enters and leaves it. */
export function arrows(place, selector) {
  place.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const end = { Home: 0, End: -1 }[event.key];
    if ((step === undefined && end === undefined) || event.defaultPrevented) return;
    const all = [...place.querySelectorAll(selector)];
    const now = all.indexOf(document.activeElement);
    if (now < 0) return;
    let next = end === undefined ? now + step : end;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") next = below(all, now, step);
    const found = all.at(Math.max(-1, Math.min(next, all.length - 1)));
    if (!found || next < -1) return;
    event.preventDefault();
    all.forEach((one) => { one.tabIndex = one === found ? 0 : -1; });
    found.focus();
  });
}

/** The nearest one in the next line, below or above. */
function below(all, now, step) {
  const here = all[now].getBoundingClientRect();
  const middle = (box) => box.left + box.width / 2;
  let best = now, least = Infinity;
  all.forEach((one, index) => {
    const box = one.getBoundingClientRect();
    const down = (box.top - here.top) * step;
    if (down < here.height / 3) return;
    const far = down * 3 + Math.abs(middle(box) - middle(here));
    if (far < least) { least = far; best = index; }
  });
  return best;
}

/** A bar for a job or a file; unknown totals go to and fro. */
export function progress(label, value, max) {
  return el("progress", { "aria-label": label, max: String(max || 1), value: max ? String(value) : null });
}
