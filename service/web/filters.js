// Filters by camera, time and tag, as search and gallery both have them.

import { el, field, number, put, words } from "./dom.js";
import { toLocal, toUtc } from "./query.js";

/** Check boxes for names with counts; with many of them, a field to look for one. */
function choices(title, items, chosen, onchange) {
  const all = [...items];
  for (const name of chosen) if (!all.some((one) => one.name === name)) all.push({ name, count: 0 });
  if (!all.length) return null;
  const list = el("div", { class: "choices", role: "group", "aria-label": title });
  const draw = (part = "") => {
    const fits = all.filter((one) => chosen.includes(one.name) || one.name.toLowerCase().includes(part.toLowerCase()));
    put(list, fits.slice(0, 100).map(({ name, count }) =>
      el("label", { class: "choice" },
        el("input", {
          type: "checkbox", checked: chosen.includes(name),
          onchange: (event) => {
            const next = chosen.filter((other) => other !== name);
            if (event.target.checked) next.push(name);
            chosen = next;
            put(summary, told());
            onchange(next);
          },
        }),
        words(name), el("small", {}, number(count)))));
  };
  const told = () => [title, el("small", {}, chosen.length ? chosen.map((name) => words(name)).flatMap((one, n) => (n ? [", ", one] : [one])) : "any")];
  const summary = el("summary", {}, told());
  draw();
  return el("details", { class: "pick", open: chosen.length > 0 }, summary,
    all.length > 8 && el("input", {
      type: "search", placeholder: `Find among ${number(all.length)}`, "aria-label": `Find ${title.toLowerCase()}`,
      oninput: (event) => draw(event.target.value),
    }),
    list);
}

/** `about` is GET /gallery's answer, `values` {cameras, tags, from, to}; `onchange` gets what changed. */
export function filterFields(about, values, onchange) {
  const cameras = (about?.cameras || []).filter((one) => one.camera_id !== null)
    .map((one) => ({ name: one.camera_id, count: one.images }));
  const tags = (about?.tags || []).map((one) => ({ name: one.tag, count: one.images }));
  const time = (label, key) => field(label, el("input", {
    type: "datetime-local", value: toLocal(values[key]),
    onchange: (event) => onchange({ [key]: toUtc(event.target.value) }),
  }));
  return [
    choices("Cameras", cameras, values.cameras, (chosen) => onchange({ cameras: chosen })),
    el("div", { class: "pair" }, time("From", "from"), time("Until", "to")),
    choices("Tags", tags, values.tags, (chosen) => onchange({ tags: chosen })),
  ];
}
