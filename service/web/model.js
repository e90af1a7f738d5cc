// Which model answers, how the index is, and what is known about how well it does.

import { ask, getJson, postJson, session } from "./api.js";
import { button, bytes, confirmed, decimal, el, number, percent, plural, problemBox, put, toast, when, words } from "./dom.js";
import { rate } from "./hit.js";
import { jobList } from "./jobs.js";

export function modelView(root, values, { signal }) {
  const admin = session.may("admin");
  const top = el("div", {}, el("p", { class: "hint busy pad" }, "Loading …"));
  const told = el("div", {});
  const models = el("section", { class: "panel" });
  const worth = el("section", { class: "panel" });
  const jobs = session.may("ingest") ? jobList({
    signal, title: "Jobs of the model", kinds: ["reindex", "evaluate"], empty: "None yet.", onended: (job) => {
      if (job.kind === "reindex") toast(job.state === "succeeded" ? "The model was changed." : `The model was not changed: ${job.state}.`);
      load();
    },
  }) : null;
  put(root, el("div", { class: "model" }, el("h1", {}, "Model and index"), told, top, jobs, models, worth));
  load();

  async function load() {
    try {
      const [known, index, gallery, health, version, calibrations] = await Promise.all(
        ["/models", "/index", "/gallery", "/health", "/version", "/calibrations"].map((path) => getJson(path, { signal })));
      const evaluations = session.may("ingest")
        ? (await getJson("/jobs?kind=evaluate&state=succeeded&limit=5", { signal })).items : null;
      drawTop(known, index, gallery, health, version);
      drawModels(known, index);
      drawWorth(gallery, calibrations.items, evaluations);
    } catch (problem) {
      if (problem.name !== "AbortError") put(top, problemBox(problem, { retry: load }));
    }
  }

  /** Do something that changes the model; what goes wrong is told on top. */
  async function act(method, path, done) {
    put(told);
    try {
      await ask(method, path);
      toast(done);
      if (jobs) { jobs.open = true; jobs.look(); }
      load();
    } catch (problem) {
      put(told, problemBox(problem));
      told.scrollIntoView({ block: "nearest" });
    }
  }

  function drawTop(known, index, gallery, health, version) {
    const active = known.items.find((one) => one.active);
    const now = index.generations.find((one) => one.state === "active");
    const building = index.generations.find((one) => one.state === "building");
    const figure = (value, title) => el("div", {}, el("dd", {}, value), el("dt", {}, title));
    put(top, el("section", { class: "panel answering" },
      el("div", {}, el("p", { class: "hint" }, "Answering now"),
        el("h2", {}, words(index.model)),
        el("p", {}, now.activated_at ? ["since ", when(now.activated_at)] : ["since ", when(now.created_at)],
          active ? `, head ${active.head}, ${active.embedding_dim} numbers per person` : ""),
        active && el("p", { class: "hint" }, "Terms: ", words(active.terms)),
        health.status !== "ok" && el("p", { class: "note" }, "The service is degraded: ",
          Object.entries(health.checks).filter(([, one]) => !one.ok).map(([name]) => name).join(", "), ".")),
      el("dl", { class: "big-figures" },
        figure(number(gallery.images), "scenes"), figure(number(gallery.detections), "people"),
        figure(number(gallery.cameras.filter((one) => one.camera_id !== null).length), "cameras"),
        index.rows !== gallery.detections && figure(number(index.rows), "people in the index"),
        figure(bytes(index.bytes), `index, ${index.engine}`), figure(bytes(index.database_bytes), "database"))),
    now.images < gallery.images && el("p", { class: "note" },
      `${number(gallery.images - now.images)} scenes are not indexed by this model.`),
    building && el("div", { class: "note" }, el("p", {}, el("strong", {}, words(building.model)), " is being indexed: ",
      `${number(building.images)} of ${number(gallery.images)} scenes. `, words(index.model), " answers until it has all of them."),
    el("progress", { "aria-label": "Scenes indexed", max: String(gallery.images || 1), value: String(building.images) })),
    el("p", { class: "hint" }, `Service ${version.service}, Python ${version.python}.`));
  }

  function drawModels(known, index) {
    const building = index.generations.some((one) => one.state === "building");
    put(models, el("h2", {}, "Models"), el("ul", { class: "model-list" }, known.items.map((one) => {
      const own = one.generation;
      const state = one.active ? "answers" : own?.state === "building" ? "being indexed" : own ? "kept" : null;
      return el("li", {},
        el("div", { class: "grow" },
          el("div", { class: "row" }, el("strong", {}, words(one.model)), state && el("span", { class: `state ${one.active ? "succeeded" : ""}` }, state)),
          el("small", {}, `${one.head}, ${one.backbone}. `, own ? `${plural(own.images, "scene")} and ${plural(own.detections, "person", "people")} indexed. ` : "It has indexed no scene yet. ", one.model_sha256.slice(0, 12)),
          el("p", { class: "hint" }, words(one.terms))),
        admin && !one.active && el("div", { class: "row" },
          own?.state === "kept"
            ? [button("Go back to it", () => change(one, `/index/generations/${own.id}/activate`, own)),
              button("Delete its index", () => drop(one, own), { class: "danger-quiet" })]
            : button("Index with it", () => change(one, `/models/${encodeURIComponent(one.name)}/reindex`, own), { disabled: building })));
    })),
    known.items.length < 2 && el("p", { class: "hint" }, "Put other models into the folder that PERSON_SEARCH_MODELS_DIR names."),
    !admin && el("p", { class: "hint" }, "Changing the model needs a key with the scope admin."));
  }

  async function change(one, path, own) {
    const sure = await confirmed(own ? `Search with ${one.model}?` : `Index all scenes with ${one.model}?`, [
      own ? "Scenes that it has not seen are indexed first. Then searches use it."
        : "A job runs the new model over every scene. Meanwhile searches go on with the present model, and adding scenes takes longer. When all is done, searches use the new one.",
      "The previous model is kept, so you can go back.",
    ], own ? "Let it answer" : "Begin");
    if (sure) act("POST", path, "The job has begun.");
  }

  async function drop(one, own) {
    const sure = await confirmed(`Delete the index of ${one.model}?`, [
      `This deletes what the model found: ${plural(own.detections, "person", "people")} in ${plural(own.images, "scene")}. The scenes stay. To use the model again, all scenes must be indexed again.`,
    ], "Delete its index");
    if (sure) act("DELETE", `/index/generations/${own.id}`, "The index was deleted.");
  }

  function drawWorth(gallery, calibrations, evaluations) {
    const evaluation = evaluations?.[0]?.result;
    const used = calibrations[0];
    const problem = el("div", {});
    const failed = (error) => put(problem, problemBox(error));
    put(worth, el("h2", {}, "How good it is on your scenes"),
      el("p", {}, gallery.labelled
        ? `${plural(gallery.labelled, "person has", "people have")} one of ${plural(gallery.labels, "label")}.`
        : "Nobody is labelled yet. Open scenes in the gallery and label the same people in several of them. Then you can measure how well they are found."),
      problem,
      el("div", { class: "halves" },
        el("div", {}, el("h3", {}, "Evaluation"),
          evaluation ? measured(evaluation, evaluations[0]) : el("p", { class: "hint" }, "Searches for every labelled person and checks how high the same label ranks."),
          admin && button("Evaluate on the labels", async () => {
            try { await postJson("/evaluations", {}); toast("The evaluation has begun."); jobs.open = true; jobs.look(); } catch (error) { failed(error); }
          }, { disabled: !gallery.labelled })),
        el("div", {}, el("h3", {}, "Calibration"),
          used ? calibrated(used) : el("p", { class: "hint" }, "Measures how often a different person reaches a score. Needs 20 people labelled in several scenes, and 30 / rate pairs."),
          admin && button("Calibrate on the labels", async () => {
            try { await postJson("/calibrations", {}); toast("The scores were calibrated."); load(); } catch (error) { failed(error); }
          }, { disabled: !gallery.labelled }))));
  }

  function measured(result, job) {
    const row = (title, one) => el("tr", {}, el("th", { scope: "row" }, title), el("td", {}, percent(one.value)),
      el("td", {}, one.low === null ? "–" : `${percent(one.low)} to ${percent(one.high)}`));
    return [
      el("table", {}, el("caption", {}, `${words(result.model).textContent}, ${plural(result.search.queries, "query", "queries")} of ${plural(result.search.people, "person", "people")}`),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Figure"), el("th", { scope: "col" }, "Value"), el("th", { scope: "col" }, "95 % interval"))),
        el("tbody", {}, row("mAP", result.search.map), row("top-1", result.search.top_1), row("top-5", result.search.top_5), row("top-10", result.search.top_10))),
      el("p", { class: "hint" }, "Measured ", when(job.finished_at), ".")];
  }

  function calibrated(used) {
    return [
      el("table", {}, el("caption", {}, `${plural(used.people, "person", "people")}, ${plural(used.impostor_pairs, "pair")} of different people`),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "False-match rate"), el("th", { scope: "col" }, "From score"), el("th", { scope: "col" }, "Missed"))),
        el("tbody", {}, used.thresholds.map((one) => el("tr", {}, el("th", { scope: "row" }, `at most ${rate(one.target)}`),
          el("td", {}, decimal(one.score)), el("td", {}, one.fnmr ? percent(one.fnmr.value) : "–"))))),
      el("p", { class: "hint" }, "Measured ", when(used.created_at), ". In use by searches.")];
  }
}
