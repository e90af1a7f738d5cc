// Add many pictures or a folder: one request a file, two at a time, each with its progress.

import { sendFile } from "./api.js";
import { button, el, field, number, plural, progress, put, say, words } from "./dom.js";

const AT_ONCE = 2;
const MOST_ROWS = 200;
const MOST_TRIES = 5;
const TYPES = /\.(jpe?g?|jfif|png|webp|avif|hei[cf]|hif|bmp|tiff?)$/i;

/** `onadded` after each scene, `ondone` when all files are dealt with. */
export function uploader({ onadded, ondone, signal }) {
  const camera = el("input", { maxlength: "255", dir: "auto", autocomplete: "off" });
  const tags = el("input", { dir: "auto", autocomplete: "off", placeholder: "lobby, night" });
  const time = el("select", {}, el("option", { value: "" }, "Not known"), el("option", { value: "file" }, "The date of each file"));
  const files = el("input", { type: "file", multiple: true, accept: "image/*", class: "unseen", tabindex: "-1", "aria-hidden": "true", onchange: () => take(files) });
  const folder = el("input", { type: "file", webkitdirectory: true, class: "unseen", tabindex: "-1", "aria-hidden": "true", onchange: () => take(folder) });
  const summary = el("div", {});
  const rows = el("ul", { class: "uploads" });
  const node = el("div", {},
    el("div", { class: "drop" },
      el("p", { class: "lead" }, "Drop scenes or a folder here"),
      el("p", { class: "hint" }, "Whole pictures, as JPEG, PNG, WebP, AVIF, HEIC, BMP or TIFF."),
      el("div", { class: "row centre" },
        button("Choose pictures", () => files.click(), { class: "main" }), files,
        button("Choose a folder", () => folder.click()), folder)),
    el("div", { class: "filter-row" },
      field("Camera", camera, "of all these pictures"), field("Tags", tags, "comma between them"), field("Taken", time)),
    summary, rows);

  const waiting = [];
  const count = { all: 0, added: 0, known: 0, failed: 0 };
  let running = 0, stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); }, { signal });

  function take(input) {
    add([...input.files]);
    input.value = "";
  }

  /** Files, and all that is in folders, of what was dropped. */
  async function drop(data) {
    const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = [];
    const look = async (entry, path) => {
      if (entry.isFile) {
        const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
        file.path = path + file.name;
        found.push(file);
        return;
      }
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
        if (!some.length) return;
        for (const one of some) await look(one, `${path}${entry.name}/`);
      }
    };
    for (const entry of entries) await look(entry, "");
    add(entries.length ? found : [...data.files]);
  }

  function add(chosen) {
    const pictures = chosen.filter((file) => file.type.startsWith("image/") || TYPES.test(file.name));
    const about = {
      ...(camera.value.trim() && { camera_id: camera.value.trim() }),
      tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean),
    };
    for (const file of pictures) {
      const name = file.path || file.webkitRelativePath || file.name;
      waiting.push({
        file, name,
        metadata: {
          ...about,
          attributes: { file: clean(name).slice(-1024) },
          ...(time.value === "file" && { captured_at: new Date(file.lastModified).toISOString() }),
        },
      });
    }
    count.all += pictures.length;
    count.passed = (count.passed || 0) + chosen.length - pictures.length;
    stop = stop.signal.aborted && !signal.aborted ? new AbortController() : stop;
    drawSummary();
    while (running < AT_ONCE && waiting.length) work();
  }

  async function work() {
    running += 1;
    for (let task = waiting.shift(); task; task = waiting.shift()) await send(task);
    running -= 1;
    drawSummary();
    if (!running) {
      say(`${number(count.added)} added, ${number(count.known)} there already, ${number(count.failed)} failed.`);
      ondone();
    }
  }

  async function send(task) {
    const bar = progress(`Sending ${task.name}`, 0, 1);
    const said = el("small", {}, "sending");
    const row = el("li", {}, el("span", { class: "name" }, words(task.name)), said, bar);
    rows.prepend(row);
    trim();
    try {
      const told = await post(task, (share) => {
        bar.value = share;
        if (share >= 1) { bar.removeAttribute("value"); said.textContent = "looking for people"; }
      });
      const added = told.status === "created";
      count[added ? "added" : "known"] += 1;
      row.className = "ok";
      said.textContent = added ? plural(told.detections.length, "person", "people") : "in the gallery already";
      if (added) onadded(told);
    } catch (problem) {
      if (problem.name === "AbortError") { row.remove(); return; }
      count.failed += 1;
      row.className = "failed";
      said.textContent = `${problem.title}. ${problem.detail || ""}`;
      row.append(button("Try again", () => {
        count.failed -= 1;
        row.remove();
        waiting.unshift(task);
        drawSummary();
        if (running < AT_ONCE) work();
      }, { class: "small", "aria-label": `Try ${task.name} again` }));
    }
    bar.remove();
    drawSummary();
  }

  /** Send once more, after a while, what the service was too busy for. */
  async function post(task, onsent) {
    for (let attempt = 1; ; attempt += 1) {
      const form = new FormData();
      form.append("image", task.file, "scene");
      form.append("metadata", JSON.stringify(task.metadata));
      try {
        return await sendFile("/gallery/images", form, { onsent, signal: stop.signal });
      } catch (problem) {
        if (!problem.retryable || attempt >= MOST_TRIES || problem.code === "insufficient_storage") throw problem;
        await new Promise((resolve) => { setTimeout(resolve, Math.max(problem.retryAfter, attempt) * 1000); });
        if (stop.signal.aborted) throw problem;
      }
    }
  }

  /** Failures stay in sight; of the others, the latest. */
  function trim() {
    const done = [...rows.querySelectorAll("li.ok")];
    if (rows.children.length > MOST_ROWS) done.slice(-(rows.children.length - MOST_ROWS)).forEach((row) => row.remove());
  }

  function drawSummary() {
    if (!count.all && !count.passed) return;
    const done = count.added + count.known + count.failed;
    const parts = [
      `${number(done)} of ${plural(count.all, "picture")}`,
      count.added && `${number(count.added)} added`, count.known && `${number(count.known)} there already`,
      count.failed && `${number(count.failed)} failed`, count.passed && `${plural(count.passed, "other file")} passed over`,
    ].filter(Boolean).join(", ");
    put(summary, el("div", { class: "row" }, el("strong", { id: "uploaded" }, parts),
      done < count.all && button("Stop", () => { waiting.length = 0; stop.abort(); count.all = done; drawSummary(); }, { class: "small" })),
    progress("All files", done, count.all));
  }

  return { node, drop };
}

/** Without what the service does not take in a name: control characters, and halves of pairs. */
const clean = (name) => name.replace(/[\u0000-\u001f\u007f]/g, " ").replace(/\p{Surrogate}/gu, "\ufffd");
