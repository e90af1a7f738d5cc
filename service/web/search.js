// The view to search with: whom to look for, where, and who was found.

import { ask, contentPath, getJson, pictures, sceneRecord, session, thumbnail, thumbnails } from "./api.js";
import { arrows, button, decimal, el, field, number, openDialog, plural, problemBox, put, say, sceneName, toast, words } from "./dom.js";
import { filterFields } from "./filters.js";
import { hitCard, openHit, rate } from "./hit.js";
import { NO_FILTERS, addressOf, cropUrl, forget, readAddress, requestOf } from "./query.js";
import { Stage } from "./stage.js";

const MORE = 20;
const MOST_QUERIES = 16;
const SLOW_MS = 3000;
const SCENE_WIDTH = 200; // pixels; what is narrower and high is a crop
const PICTURES = "image/jpeg,image/png,image/webp,image/avif";

// What was searched last stays while another view is shown.
const state = { queries: [], filters: { ...NO_FILTERS }, source: null, answer: null, address: "#/search" };

/** Where the last search is. */
export const searchAddress = () => state.address;

/** Search from elsewhere, for a stored person or a box. */
export function searchFor(query) {
  location.hash = addressOf([query], { ...state.filters, limit: NO_FILTERS.limit });
}

export function searchView(root, values, { signal }) {
  const stageBox = el("div", { class: "stage-box" });
  const chips = el("div", { class: "chips" });
  const filters = el("div", { class: "filters" });
  const results = el("section", { class: "results", "aria-label": "Results" });
  const aside = el("section", { class: "query", "aria-label": "Whom to look for" }, stageBox, chips, filters);
  put(root, el("div", { class: "search" }, aside, results));
  let about = null, attentive = false, calibration = null;
  let slot = 0; // which query a choice in the picture becomes
  let stage = null;
  let running = null, detecting = null;

  signal.addEventListener("abort", () => { running?.abort(); detecting?.abort(); });
  root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("over"); }, { signal });
  root.addEventListener("dragleave", () => root.classList.remove("over"), { signal });
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    root.classList.remove("over");
    const file = [...event.dataTransfer.files].find((one) => one.type.startsWith("image/"));
    if (file) openFile(file); else toast("That is not a picture.");
  }, { signal });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) openFile(file);
  }, { signal });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (/^(INPUT|SELECT|SUMMARY)$/.test(event.target.tagName)) return; // it closes what they have open
    if (running) { running.abort(); return; }
    if (state.queries.length) newSearch();
  }, { signal });

  start();

  async function start() {
    const asked = readAddress(values);
    const known = addressOf(state.queries, state.filters);
    if (asked.queries.length && addressOf(asked.queries, asked.filters) !== known) {
      state.queries.forEach(forget);
      Object.assign(state, { queries: asked.queries, filters: asked.filters, answer: null, source: null });
    } else if (!asked.queries.length) {
      if ([...values.keys()].length) state.filters = asked.filters;
      // An address without queries is a new search, unless the search has pictures of this tab alone.
      if (state.queries.length && known) {
        state.queries.forEach(forget);
        Object.assign(state, { queries: [], answer: null, source: null });
      }
    }
    state.address = location.hash || "#/search";
    slot = Math.max(0, state.queries.length - 1);
    drawFilters();
    if (state.source) showSource(); else showPicker();
    drawChips();
    if (state.answer) drawResults(); else if (state.queries.length) run(); else drawBeginning();
    learn();
    const first = state.queries[0];
    if (first && !state.source) showStored(first);
  }

  async function learn() {
    try {
      const [gallery, models, calibrations] = await Promise.all(
        ["/gallery", "/models", "/calibrations"].map((path) => getJson(path, { signal })));
      about = gallery;
      attentive = models.items.some((one) => one.active && one.head.startsWith("nae_plus"));
      calibration = calibrations.items[0] || null;
      drawFilters();
      if (!state.queries.length) drawBeginning();
    } catch (problem) {
      if (problem.name !== "AbortError" && !state.queries.length) put(results, problemBox(problem, { retry: learn }));
    }
  }

  // --- whom to look for

  function showPicker() {
    const input = el("input", { type: "file", accept: PICTURES, class: "unseen", tabindex: "-1", "aria-hidden": "true",
      onchange: () => input.files[0] && openFile(input.files[0]) });
    stage = null;
    const adding = slot > 0;
    put(stageBox, el("div", { class: "drop" },
      el("p", { class: "lead" }, adding ? "Another picture of the same person" : "Whom are you looking for?"),
      el("p", { class: "hint" }, "Drop or paste a picture: a whole scene, or a crop of the person."),
      el("div", { class: "row centre" },
        button("Choose a picture", () => input.click(), { class: "main" }), input,
        button("From the gallery", chooseStored),
        adding && button("Cancel", () => { slot = state.queries.length - 1; showSource(); drawChips(); }))));
  }

  async function openFile(file) {
    detecting?.abort();
    detecting = new AbortController();
    if (state.source?.url) giveBack(state.source);
    const url = URL.createObjectURL(file);
    const source = { file, url, name: file.name || "Pasted picture", people: null };
    state.source = source;
    showSource();
    try {
      const form = new FormData();
      form.append("image", file, "scene");
      const found = await (await ask("POST", "/detect", { form, signal: detecting.signal })).json();
      Object.assign(source, { width: found.width, height: found.height, people: found.detections });
    } catch (problem) {
      if (problem.name === "AbortError") return;
      source.problem = problem;
    }
    if (state.source !== source) return;
    showSource();
    if (source.people) say(source.people.length ? `${plural(source.people.length, "person was", "people were")} found. Choose one, or draw a box.` : "Nobody was found. Draw a box, or take the whole picture.");
    if (source.people && isCrop(source)) choose({ ...queryBase(source), crop: true });
  }

  async function openStored(query) {
    let id = query.image;
    if (!id) id = (await getJson(`/gallery/detections/${query.detection}`, { signal })).image_id;
    const record = await sceneRecord(id);
    if (signal.aborted) return;
    if (state.source?.url) giveBack(state.source);
    state.source = { record, name: sceneName(record), width: record.width, height: record.height, people: record.detections };
    showSource();
  }

  /**
   * A high picture that one person fills, or in which nobody is found, leaves no choice to make; nor
   * does one as small as a person in a scene, of whom parts may be found as people of their own.
   */
  function isCrop({ width, height, people }) {
    const largest = Math.max(0, ...people.map(({ box }) => (box.x2 - box.x1) * (box.y2 - box.y1)));
    return height >= width * 1.6 && (width < SCENE_WIDTH || !people.length || largest >= width * height * 0.4);
  }

  function showStored(query) {
    put(stageBox, el("p", { class: "hint busy" }, "Loading the scene …"));
    openStored(query).catch((problem) => {
      if (problem.name !== "AbortError") put(stageBox, el("p", { class: "hint" }, `The scene of this query cannot be shown: ${problem.title || problem.message}.`));
    });
  }

  function queryBase(source) {
    return source.file ? { file: source.file, url: source.url } : { image: source.record.id };
  }

  function ofSource(query, source) {
    return source.file ? query.file === source.file
      : query.image === source.record.id || source.people.some((person) => person.id === query.detection);
  }

  function giveBack(source) {
    if (!state.queries.some((query) => query.url === source.url)) URL.revokeObjectURL(source.url);
  }

  function showSource() {
    const source = state.source;
    if (!source) { showPicker(); return; }
    stage = new Stage({
      onpick: (person) => choose(person.id ? { detection: person.id } : { ...queryBase(source), box: person.box }),
      ondraw: (box) => choose({ ...queryBase(source), box }),
    });
    stage.image.alt = `The picture ${source.name}`;
    const ready = source.people !== null;
    const told = source.problem ? null : !ready ? "Looking for people …"
      : source.people.length ? `${plural(source.people.length, "person", "people")} found. Choose one, or draw a box.`
        : "Nobody was found here. Draw a box around the person, or take the whole picture.";
    if (source.file) {
      const draw = () => {
        stage.show(source.url, source.width || stage.image.naturalWidth, source.height || stage.image.naturalHeight);
        if (ready) stage.setPeople(source.people);
        mark();
      };
      if (source.width) draw();
      else { stage.image.src = source.url; stage.image.onload = () => { stage.image.onload = null; if (!source.width) draw(); }; }
    } else {
      stage.show("", source.width, source.height);
      pictures.show(stage.image, contentPath(source.record.id), (problem) => stage.node.replaceWith(problemBox(problem, { retry: showSource })));
      stage.setPeople(source.people);
      mark();
    }
    put(stageBox,
      el("div", { class: "row" }, el("span", { class: "name grow" }, words(source.name)),
        button("Another picture", () => { if (state.source?.url) giveBack(state.source); state.source = null; showPicker(); }, { class: "small" })),
      source.problem ? problemBox(source.problem, { retry: source.problem.retryable && (() => openFile(source.file)) }) : stage.node,
      told && el("p", { class: ready ? "hint" : "hint busy" }, told),
      ready && el("div", { class: "row" }, stage.drawButton(),
        button("Take the whole picture", () => choose({ ...queryBase(source), crop: true }))));
  }

  function mark() {
    const query = state.queries[slot];
    if (!stage || !state.source?.people) return;
    if (!query || !ofSource(query, state.source)) { stage.choose(null); return; }
    stage.choose(query.detection ? state.source.people.find((one) => one.id === query.detection)?.box : query.box);
  }

  function choose(query) {
    if (state.queries[slot]) forget(state.queries[slot]);
    state.queries[slot] = query;
    mark();
    changed();
  }

  async function chooseStored() {
    const picked = await openDialog("Choose a scene", (close) => {
      const grid = el("div", { class: "pick-grid" });
      const more = el("div", { class: "row centre" });
      const load = async (cursor) => {
        put(more, el("p", { class: "hint busy" }, "Loading …"));
        try {
          const page = await getJson(`/gallery/images?order=newest&limit=24${cursor ? "&cursor=" + encodeURIComponent(cursor) : ""}`);
          grid.append(...page.items.map((record) => {
            const image = el("img", { alt: "" });
            thumbnails.show(image, thumbnail(record.id, 256));
            return el("button", { type: "button", class: "pick-tile", onclick: () => close(record) }, image,
              el("span", {}, words(sceneName(record))));
          }));
          put(more, page.next_cursor ? button("Show more", () => load(page.next_cursor))
            : grid.children.length ? "" : el("p", {}, "The gallery is empty."));
        } catch (problem) {
          put(more, problemBox(problem, { retry: () => load(cursor) }));
        }
      };
      arrows(grid, ".pick-tile");
      load(null);
      return [grid, more];
    }, { wide: true });
    if (picked) showStored({ image: picked.id });
  }

  function drawChips() {
    if (!state.queries.length) { put(chips); return; }
    const list = state.queries.map((query, index) => {
      const image = el("img", { alt: `Query ${index + 1}` });
      cropUrl(query).then((url) => { image.src = url; }, () => image.classList.add("broken"));
      return el("span", { class: "chip" }, image,
        button("×", () => drop(index), { "aria-label": `Remove query ${index + 1}`, class: "quiet" }));
    });
    put(chips,
      el("div", { class: "row" }, el("strong", {}, state.queries.length > 1 ? `Looking for, in ${state.queries.length} pictures` : "Looking for"),
        el("span", { class: "grow" }), button("New search", newSearch, { class: "small" })),
      el("div", { class: "row" }, list,
        state.queries.length < MOST_QUERIES && button("+ Picture of the same person", () => {
          slot = state.queries.length;
          state.source = null;
          showPicker();
        }, { class: "small" })),
      state.queries.length > 1 && field("Several pictures", select([["max", "Like any of them"], ["mean", "Like their mean"]], state.filters.fusion, (value) => set({ fusion: value }))));
  }

  function drop(index) {
    forget(state.queries[index]);
    state.queries.splice(index, 1);
    slot = Math.max(0, state.queries.length - 1);
    if (state.queries.length) { mark(); changed(); } else newSearch();
  }

  function newSearch() {
    running?.abort();
    state.queries.forEach(forget);
    const source = state.source;
    Object.assign(state, { queries: [], source: null, answer: null });
    if (source?.url) giveBack(source);
    slot = 0;
    go("#/search");
    showPicker();
    drawChips();
    drawBeginning();
  }

  // --- where to look

  function select(options, value, onchange) {
    return el("select", { onchange: (event) => onchange(event.target.value) },
      options.map(([name, text]) => el("option", { value: name, selected: name === String(value) }, text)));
  }

  function drawFilters() {
    const { filters: now } = state;
    const open = filters.querySelector(".all-filters")?.open ?? matchMedia("(min-width: 60rem)").matches;
    const score = el("span", {}, now.minScore === "" ? "any" : decimal(Number(now.minScore), 2));
    const range = el("input", {
      type: "range", min: "0", max: "1", step: "0.05", value: now.minScore || "0",
      oninput: () => { score.textContent = Number(range.value) ? decimal(Number(range.value), 2) : "any"; },
      onchange: () => set({ minScore: Number(range.value) ? range.value : "" }),
    });
    put(filters, el("details", { class: "all-filters", open }, el("summary", {}, el("strong", {}, "Filters")),
      filterFields(about, now, set),
      field(el("span", { class: "row" }, "Minimum score", el("span", { class: "grow" }), score), range),
      calibration && field("Highest false-match rate", select(
        [["", "Any"], ...calibration.thresholds.map((one) => [String(one.target), rate(one.target)])], now.fmr, (value) => set({ fmr: value }))),
      field("Show", select([["image", "The best of each scene"], ["detection", "All people"]], now.group, (value) => set({ group: value }))),
      JSON.stringify({ ...now, limit: 0 }) !== JSON.stringify({ ...NO_FILTERS, limit: 0 })
        && button("Clear filters", () => { state.filters = { ...NO_FILTERS }; drawFilters(); changed(); }, { class: "small" })));
  }

  function set(change) {
    const clearable = Boolean(filters.querySelector(".all-filters > button"));
    state.filters = { ...state.filters, ...change, limit: NO_FILTERS.limit };
    const plain = JSON.stringify({ ...state.filters, limit: 0 }) === JSON.stringify({ ...NO_FILTERS, limit: 0 });
    if (clearable === plain) {
      const label = document.activeElement?.closest("label")?.textContent;
      drawFilters();
      [...filters.querySelectorAll("label")].find((one) => one.textContent === label)?.querySelector("input, select")?.focus();
    }
    if (state.queries.length) changed();
  }

  // --- who was found

  function go(address) {
    if (location.hash === address) return;
    history.pushState(null, "", address);
    state.address = address;
  }

  function changed() {
    drawChips();
    state.answer = null;
    go(addressOf(state.queries, state.filters) || "#/search");
    run();
  }

  async function run() {
    running?.abort();
    const mine = running = new AbortController();
    const started = performance.now();
    const busy = el("p", { class: "hint busy" }, "Searching …");
    const wait = el("div", { class: "waiting" }, busy, button("Cancel", () => mine.abort(), { class: "small" }));
    results.classList.add("old");
    const shown = setTimeout(() => results.prepend(wait), 150);
    const slow = setInterval(() => {
      const seconds = Math.round((performance.now() - started) / 1000);
      if (seconds * 1000 >= SLOW_MS) busy.textContent = `Still searching after ${seconds} s. The service is busy, or the picture is large.`;
    }, 1000);
    try {
      const answer = await (await ask("POST", "/search", { ...requestOf(state.queries, state.filters), signal: mine.signal })).json();
      performance.mark("answer");
      state.answer = { ...answer, asked: [...state.queries] };
      drawResults();
      if (results.getBoundingClientRect().top > innerHeight * 0.6) results.scrollIntoView();
      requestAnimationFrame(() => setTimeout(() => performance.mark("drawn")));
    } catch (problem) {
      if (problem.name === "AbortError") {
        if (running === mine && !signal.aborted) put(results, el("p", { class: "hint pad" }, "The search was cancelled. ", button("Search", run, { class: "small" })));
      } else {
        put(results, problemBox(problem, { retry: run }));
      }
    } finally {
      clearTimeout(shown);
      clearInterval(slow);
      wait.remove();
      if (running === mine) { running = null; results.classList.remove("old"); }
    }
  }

  function drawBeginning() {
    if (!about) { put(results, el("p", { class: "hint busy pad" }, "Loading …")); return; }
    if (!about.images) {
      put(results, el("div", { class: "empty" },
        el("h2", {}, "The gallery is empty"),
        el("p", {}, "Searching finds people in the scenes of the gallery. Begin by adding some:"),
        el("ol", {},
          el("li", {}, "Add scenes: whole pictures, as the cameras took them."),
          el("li", {}, "Drop a picture of a person here, or choose a scene."),
          el("li", {}, "See where else they appear.")),
        session.may("ingest") ? el("p", {}, el("a", { class: "button main", href: "#/gallery?add=1" }, "Add scenes"))
          : el("p", { class: "hint" }, "Your key can search but not add scenes. Ask somebody whose key has the scope ingest.")));
      return;
    }
    const strip = el("div", { class: "pick-grid" });
    put(results, el("div", { class: "row" },
      el("h2", {}, "Or start from a stored scene"), el("span", { class: "grow" }),
      el("span", { class: "hint" }, `${plural(about.images, "scene")}, ${plural(about.detections, "person", "people")}`)), strip);
    arrows(strip, ".pick-tile");
    getJson("/gallery/images?order=newest&limit=12", { signal }).then((page) => {
      put(strip, page.items.map((record) => {
        const image = el("img", { alt: "" });
        thumbnails.show(image, thumbnail(record.id));
        return el("button", { type: "button", class: "pick-tile", onclick: () => showStored({ image: record.id }) },
          image, el("span", {}, words(sceneName(record)), el("small", {}, plural(record.detections.length, "person", "people"))));
      }));
    }, (problem) => { if (problem.name !== "AbortError") put(strip, problemBox(problem)); });
  }

  function drawResults() {
    const answer = state.answer;
    let hits = answer.hits;
    const warnings = [...new Set(answer.query.flatMap((one) => one.warnings))];
    const address = addressOf(state.queries, state.filters);
    const likely = hits.filter((hit) => hit.likely_match).length;
    if (!hits.length) {
      put(results, el("div", { class: "empty" }, el("h2", {}, "Nobody was found"),
        el("p", {}, filtered() ? "Nobody was found in the scenes that pass the filters. Widen the time, the cameras or the minimum score."
          : "There is nobody else in the gallery. Add more scenes."),
        filtered() && button("Clear filters", () => { state.filters = { ...NO_FILTERS }; drawFilters(); changed(); })));
      say("Nobody was found.");
      return;
    }
    const grid = el("div", { class: "hits" });
    const order = select([["score", "Best first"], ["time", "Newest first"]], state.order || "score", (value) => {
      state.order = value;
      fill();
    });
    function fill() {
      hits = state.order === "time" ? [...answer.hits].sort((a, b) => (b.image.captured_at || "").localeCompare(a.image.captured_at || "")) : answer.hits;
      put(grid, hits.map((hit, index) => {
        const card = hitCard(hit, { onopen: open, onagain: (one) => again({ detection: one.detection.id }) });
        if (!index) card.querySelector(".hit-open").tabIndex = 0;
        seen.observe(card);
        return card;
      }));
    }
    const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      seen.unobserve(entry.target);
      entry.target.load();
    }), { rootMargin: "300px" });
    arrows(grid, ".hit-open");
    fill();
    const told = `${plural(hits.length, state.filters.group === "image" ? "scene" : "person", state.filters.group === "image" ? "scenes" : "people")}`;
    put(results,
      el("div", { class: "row results-head" },
        el("h2", {}, told),
        answer.index.match_similarity !== null && el("span", { class: "hint" }, likely ? `${plural(likely, "likely match", "likely matches")}` : "no likely match"),
        el("span", { class: "grow" }),
        el("label", { class: "inline" }, "Order ", order),
        address ? button("Copy address", async () => {
          try { await navigator.clipboard.writeText(location.href); toast("Link copied. It opens this search again."); }
          catch { toast("Copy the link from the address bar. It opens this search again."); }
        }, { class: "small" }) : el("span", { class: "hint", title: "Add it to the gallery to get a link." }, "The picture is only in this tab, so there is no link to share.")),
      warnings.includes("small_query") && el("p", { class: "note" }, "The person is small in the query picture, so the results are less certain."),
      warnings.includes("wide_crop") && el("p", { class: "note" }, "The whole picture was used as one person, but it is wider than high. If it is a scene, draw a box."),
      !warnings.includes("small_query") && !warnings.includes("wide_crop") && warnings.length > 0 && el("p", { class: "note" }, warnings.join(", ")),
      !likely && answer.index.match_similarity !== null && el("p", { class: "note" },
        `Nobody is above the model's threshold (similarity ${decimal(answer.index.match_similarity, 2)}). These are the most similar people; all of them may be somebody else.`),
      grid,
      answer.hits.length >= state.filters.limit && state.filters.limit < 1000 && el("div", { class: "row centre" },
        button("Show more", () => {
          state.filters = { ...state.filters, limit: Math.min(1000, state.filters.limit + MORE) };
          changed();
        })),
      el("p", { class: "hint" }, "Answered by ", words(answer.index.model), ` in ${number(Math.round(Object.values(answer.timings_ms).reduce((sum, one) => sum + one, 0)))} ms.`));
    say(`${told}. ${likely ? plural(likely, "likely match", "likely matches") + "." : ""} Best similarity ${decimal(answer.hits[0].similarity, 2)}.`);

    async function open(hit) {
      const done = await openHit(hit, {
        index: answer.index, queries: answer.asked, attentive,
        step: (from, by) => hits[hits.indexOf(from) + by],
        onremoved: () => run(),
      });
      if (done?.again) again(done.again);
      else if (done?.add) {
        if (state.queries.length >= MOST_QUERIES) { toast(`A search can use at most ${MOST_QUERIES} pictures.`); return; }
        state.queries.push(done.add);
        slot = state.queries.length - 1;
        changed();
      } else grid.querySelectorAll(".hit-open")[hits.indexOf(hit)]?.focus();
    }
  }

  function filtered() {
    const { cameras, tags, from, to, minScore, fmr } = state.filters;
    return cameras.length || tags.length || from || to || minScore !== "" || fmr !== "";
  }

  function again(query) {
    state.queries.forEach(forget);
    const before = state.source;
    Object.assign(state, { queries: [query], source: null });
    if (before?.url) giveBack(before);
    slot = 0;
    showStored(query);
    changed();
    window.scrollTo({ top: 0 });
  }
}
