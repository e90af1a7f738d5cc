// Work that is longer than a request: how far it is, why it failed, and how to end it.

import { ask, followJob, getJson } from "./api.js";
import { button, el, number, plural, problemBox, progress, put, when } from "./dom.js";

const KINDS = {
  ingest: "Adding uploaded images", import: "Import", reindex: "Indexing anew", evaluate: "Evaluation",
  snapshot: "Snapshot", erase: "Erasure", compact: "Compaction",
};
const SHOWN = 5;
const FOLLOWED = 4;
const LOOK_MS = 10000;

/** The newest jobs of some kinds, the running ones followed; `onended` once for each that ends while they are shown. */
export function jobList({ signal, title, kinds = [], empty, onended, onjobs }) {
  const list = el("ul", { class: "jobs" });
  const node = el("details", { class: "jobs-box" }, el("summary", {}, el("strong", {}, title), el("small", {})), list);
  const followed = new Set();
  let known = null; // what had ended when this was first looked at, or was told since
  const rows = new Map();

  async function look() {
    if (signal.aborted) return;
    try {
      const asked = new URLSearchParams({ limit: String(SHOWN) });
      kinds.forEach((kind) => asked.append("kind", kind));
      const { items } = await getJson(`/jobs?${asked}`, { signal });
      draw(items);
      onjobs?.(items);
      known ??= new Set(items.filter(ended).map((job) => job.id));
      items.forEach(tell); // a short job may begin and end between two looks
      items.filter((job) => !ended(job) && !followed.has(job.id)).slice(0, FOLLOWED - followed.size).forEach(follow);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      put(list, el("li", {}, problemBox(problem, { retry: look })));
    }
    clearTimeout(look.timer);
    look.timer = setTimeout(look, LOOK_MS);
  }

  async function follow(job) {
    followed.add(job.id);
    let last = job;
    try {
      await followJob(job.id, (now) => { last = now; update(now); }, signal);
    } catch { /* looked at again below */ }
    followed.delete(job.id);
    if (signal.aborted) return;
    tell(last);
    look();
  }

  function tell(job) {
    if (!ended(job) || known.has(job.id)) return;
    known.add(job.id);
    onended?.(job);
  }

  function draw(items) {
    const running = items.filter((job) => !ended(job)).length;
    node.querySelector("summary small").textContent = running ? `${running} running` : items.length ? "none running" : "none";
    if (running) node.open = true;
    rows.clear();
    put(list, (items.length ? items.map((job) => {
      const row = el("li", {});
      rows.set(job.id, row);
      update(job, row);
      return row;
    }) : [el("li", { class: "hint" }, empty)]));
  }

  function update(job, row = rows.get(job.id)) {
    if (!row) return;
    const { done, total, failed, eta_s: left } = job.progress;
    const going = !ended(job);
    put(row,
      el("div", { class: "row" },
        el("strong", {}, KINDS[job.kind] || job.kind),
        el("span", { class: `state ${job.state}` }, job.cancel_requested && going ? "being cancelled" : job.state),
        el("span", { class: "grow" }),
        el("small", {}, when(job.created_at)),
        going && !job.cancel_requested && button("Cancel", () => cancel(job, row), { class: "small", "aria-label": `Cancel ${KINDS[job.kind] || job.kind}` })),
      going ? progress(KINDS[job.kind] || job.kind, done, total) : "",
      el("small", {}, [
        total ? `${number(done)} of ${number(total)}` : done ? number(done) : "",
        failed ? `${number(failed)} failed` : "", going && left ? `about ${duration(left)} left` : "",
      ].filter(Boolean).join(", ")),
      job.problem ? el("p", { class: "hint" }, `${job.problem.title}. ${job.problem.detail}`) : "",
      failed ? failures(job) : "");
  }

  function failures(job) {
    const box = el("ul", {});
    const more = el("details", {}, el("summary", {}, plural(job.progress.failed, "failure")), box);
    more.addEventListener("toggle", async () => {
      if (!more.open || box.children.length) return;
      try {
        const { errors } = await getJson(`/jobs/${job.id}`, { signal });
        put(box, errors.slice(0, 100).map((one) =>
          el("li", {}, el("bdi", {}, one.item), ": ", one.problem.detail || one.problem.title)));
      } catch (problem) { put(box, el("li", {}, problem.message)); }
    });
    return more;
  }

  async function cancel(job, row) {
    try { update(await (await ask("POST", `/jobs/${job.id}/cancel`)).json(), row); } catch (problem) { row.append(problemBox(problem)); }
  }

  signal.addEventListener("abort", () => clearTimeout(look.timer));
  look();
  node.look = look;
  return node;
}

export const ended = (job) => ["succeeded", "failed", "cancelled"].includes(job.state);

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

