// The gallery: add scenes, browse them by camera and time, open one, delete.

import { ask, forgetScene, getJson, postJson, session, thumbnail, thumbnails } from "./api.js";
import { button, confirmed, el, number, plural, problemBox, put, say, sceneName, toast, whenShort, words } from "./dom.js";
import { filterFields } from "./filters.js";
import { jobList } from "./jobs.js";
import { openScene } from "./scene.js";
import { uploader } from "./upload.js";

const PAGE = 200; // scenes in one request
const MOST_PAGES = 20; // kept; others are fetched again when they are seen again
const MOST_SCENES = 50000; // in one list; what lies behind is reached by camera and time
const CAPTION_PX = 50;
const GAP_PX = 12;
const BEYOND_PX = 600; // drawn above and below what is seen

export function galleryView(root, values, { signal }) {
  const filters = {
    cameras: values.getAll("camera"), tags: values.getAll("tag"),
    from: values.get("from") || "", to: values.get("to") || "",
  };
  const may = session.may("ingest");
  const see = session.may("search");
  let about = null;
  const selected = new Set();
  let selecting = false;
  const head = el("div", { class: "row gallery-head" });
  const adding = el("section", { class: "adding", hidden: true, "aria-label": "Add scenes" });
  const picks = el("div", { class: "gallery-filters" });
  const place = el("div", {});
  const jobs = may ? jobList({ signal, title: "Jobs", empty: "No jobs yet. Large imports run as jobs and show here.", onended: refresh }) : null;
  put(root, el("div", { class: "gallery" }, head, adding, el("div", { class: "gallery-bars" }, picks, jobs), place));

  const upload = may && uploader({ onadded: learnSoon, ondone: refresh, signal });
  if (upload) {
    adding.append(upload.node);
    root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("over"); }, { signal });
    root.addEventListener("dragleave", () => root.classList.remove("over"), { signal });
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      root.classList.remove("over");
      adding.hidden = false;
      upload.drop(event.dataTransfer);
      drawHead();
    }, { signal });
    if (values.get("add")) adding.hidden = false;
  }

  const list = see ? sceneList(place, { filters, signal, onopen: open, isSelected: (id) => selected.has(id), isSelecting: () => selecting, ontoggle: toggle, onempty: empty }) : null;
  drawHead();
  if (see) learn(); else put(place, el("p", { class: "hint pad" }, "Your key can add scenes but not view them."));
  if (values.get("scene")) open({ id: values.get("scene") });

  let learning = 0;
  function learnSoon() {
    clearTimeout(learning);
    learning = setTimeout(learn, 500);
  }

  async function learn() {
    if (!see || signal.aborted) return;
    try {
      about = await getJson("/gallery", { signal });
      if (!about.images && may) adding.hidden = false;
      drawHead();
      drawFilters();
    } catch (problem) {
      if (problem.name !== "AbortError") toast(problem.detail || problem.message);
    }
  }

  function refresh() {
    if (signal.aborted) return;
    learn();
    list?.reload();
  }

  function drawHead() {
    put(head,
      el("h1", {}, "Gallery"),
      about ? el("span", { class: "hint", id: "count" }, `${plural(about.images, "scene")}, ${plural(about.detections, "person", "people")}`) : "",
      el("span", { class: "grow" }),
      selecting && [
        el("span", { role: "status" }, `${number(selected.size)} selected`),
        button(`Delete ${plural(selected.size, "scene")} …`, deleteSelected, { class: "danger", disabled: !selected.size }),
        button("Done", () => { selecting = false; selected.clear(); drawHead(); list.redraw(); }),
      ],
      may && see && !selecting && about?.images > 0 && button("Select", () => { selecting = true; drawHead(); list.redraw(); }),
      may && !selecting && button(adding.hidden ? "Add scenes" : "Hide adding", () => {
        adding.hidden = !adding.hidden;
        drawHead();
        if (!adding.hidden) adding.querySelector("button")?.focus();
      }, { class: adding.hidden ? "main" : "", "aria-expanded": String(!adding.hidden) }));
  }

  function drawFilters() {
    const some = about.images > 0 || isFiltered();
    put(picks, (some ? [el("details", { class: "all-filters", open: isFiltered() || picks.querySelector("details")?.open || false },
      el("summary", {}, el("strong", {}, "Camera, time, tags"), el("small", {}, isFiltered() ? "filtered" : "all")),
      el("div", { class: "filter-row" }, filterFields(about, filters, set)),
      isFiltered() && button("Clear filters", () => { set({ cameras: [], tags: [], from: "", to: "" }); drawFilters(); }, { class: "small" }))] : []));
  }

  function isFiltered() {
    return Boolean(filters.cameras.length || filters.tags.length || filters.from || filters.to);
  }

  function set(change) {
    Object.assign(filters, change);
    const address = new URLSearchParams();
    filters.cameras.forEach((one) => address.append("camera", one));
    filters.tags.forEach((one) => address.append("tag", one));
    if (filters.from) address.set("from", filters.from);
    if (filters.to) address.set("to", filters.to);
    const text = address.toString();
    history.replaceState(null, "", `#/gallery${text ? "?" + text : ""}`);
    list.reload();
  }

  function empty() {
    return isFiltered()
      ? el("div", { class: "empty" }, el("h2", {}, "No scene passes these filters"),
        button("Clear filters", () => { set({ cameras: [], tags: [], from: "", to: "" }); drawFilters(); }))
      : el("div", { class: "empty" }, el("h2", {}, "The gallery is empty"),
        el("p", {}, may ? "Drop pictures or a folder above, or choose them. People are found while they upload."
          : "Somebody whose key has the scope ingest can add scenes."));
  }

  function toggle(id) {
    if (selected.has(id)) selected.delete(id); else selected.add(id);
    drawHead();
  }

  async function open(record) {
    const done = await openScene(record.id, { next: (id, by) => list?.beside(id, by) });
    if (done?.removed) {
      list?.reload();
      learn();
    } else if (!done?.left) list?.focus(done?.id || record.id);
  }

  async function deleteSelected() {
    const ids = [...selected];
    const sure = await confirmed(`Delete ${plural(ids.length, "scene")}?`, [
      "This deletes their pictures, everybody found in them, and their labels, from every model's index. No search will find them.",
      "This cannot be undone.",
    ], `Delete ${plural(ids.length, "scene")}`);
    if (!sure) return;
    try {
      let gone = 0;
      for (let start = 0; start < ids.length; start += 1000) {
        gone += (await postJson("/gallery/images:delete", { ids: ids.slice(start, start + 1000) })).deleted;
      }
      ids.forEach(forgetScene);
      toast(`${plural(gone, "scene was", "scenes were")} deleted.`);
      selected.clear();
      selecting = false;
    } catch (problem) {
      toast(`${problem.title}: ${problem.detail}`);
    }
    drawHead();
    refresh();
  }
}

/** All scenes that pass the filters, newest first, as a grid of which only what is seen exists. */
function sceneList(place, { filters, signal, onopen, isSelected, isSelecting, ontoggle, onempty }) {
  const grid = el("div", { class: "grid", role: "list", "aria-label": "Scenes" });
  const told = el("p", { class: "hint" });
  put(place, told, grid);
  let pages, cursors, total, tiles, columns, side, height, generation = 0, walking = false, focused = 0;
  let failed = null;

  const path = (cursor, count) => {
    const asked = new URLSearchParams({ order: "newest", limit: String(PAGE) });
    filters.cameras.forEach((one) => asked.append("camera_id", one));
    filters.tags.forEach((one) => asked.append("tag", one));
    if (filters.from) asked.set("captured_after", filters.from);
    if (filters.to) asked.set("captured_before", filters.to);
    if (cursor) asked.set("cursor", cursor);
    if (count) asked.set("count", "true");
    return `/gallery/images?${asked}`;
  };

  /** What a tile shows; the rest of a record is not kept. */
  const light = (record) => ({
    id: record.id, name: sceneName(record), camera: record.camera_id, at: record.captured_at,
    people: record.detections.length,
  });

  async function reload() {
    generation += 1;
    pages = new Map();
    cursors = [null];
    failed = null;
    tiles?.forEach((tile) => tile.stop());
    tiles = new Map();
    put(grid);
    grid.style.height = "";
    total = null;
    told.textContent = "Loading …";
    await fetchPage(0);
  }

  async function fetchPage(number) {
    const mine = generation;
    try {
      const page = await getJson(path(cursors[number], number === 0 && total === null), { signal });
      if (mine !== generation) return false;
      if (page.total !== undefined) total = page.total;
      if (page.next_cursor) cursors[number + 1] = page.next_cursor;
      else total = number * PAGE + page.items.length; // the end, whatever came or went meanwhile
      pages.delete(number);
      pages.set(number, page.items.map(light));
      while (pages.size > MOST_PAGES) pages.delete(pages.keys().next().value);
      failed = null;
      redraw();
      return true;
    } catch (problem) {
      if (problem.name === "AbortError" || mine !== generation) return false;
      failed = problem;
      put(told, problemBox(problem, { retry: reload }));
      return false;
    }
  }

  /** Get the page of what is seen. Pages are reached one after the other, for each tells where the
   * next begins; those on the way are passed over when the place has changed meanwhile. */
  async function walk() {
    if (walking || failed) return;
    walking = true;
    const mine = generation;
    try {
      for (;;) {
        const wanted = missing();
        if (wanted === null || mine !== generation) return;
        const known = cursors[wanted] !== undefined ? wanted : cursors.length - 1;
        if (!(await fetchPage(known))) return;
      }
    } finally { walking = false; if (mine !== generation) walk(); }
  }

  function missing() {
    if (total === null || !columns) return null;
    const [first, last] = range();
    for (const index of [first, Math.max(first, last - 1)]) {
      const page = Math.floor(index / PAGE);
      if (index < shown() && !pages.has(page)) return page;
    }
    return null;
  }

  const shown = () => Math.min(total || 0, MOST_SCENES);
  const item = (index) => pages.get(Math.floor(index / PAGE))?.[index % PAGE];

  function measure() {
    const width = grid.clientWidth;
    const least = width < 560 ? 148 : 200;
    columns = Math.max(1, Math.floor((width + GAP_PX) / (least + GAP_PX)));
    side = (width - GAP_PX * (columns - 1)) / columns;
    height = Math.round(side * 0.75) + CAPTION_PX + GAP_PX;
  }

  function range() {
    const top = grid.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor((-top - BEYOND_PX) / height));
    const to = Math.ceil((innerHeight - top + BEYOND_PX) / height);
    return [from * columns, Math.min(shown(), Math.max(0, to) * columns)];
  }

  /** Everything anew, as after a change of the width. */
  function redraw() {
    if (total === null || signal.aborted) return;
    if (!total) { told.textContent = ""; put(grid); tiles.clear(); grid.style.height = ""; put(place, told, grid, onempty()); return; }
    if (place.lastChild !== grid) put(place, told, grid);
    measure();
    grid.style.height = `${Math.ceil(shown() / columns) * height - GAP_PX}px`;
    told.textContent = total > MOST_SCENES
      ? `The newest ${number(MOST_SCENES)} of ${number(total)} scenes. Choose a camera or a time to see others.`
      : "";
    tiles.forEach((tile) => { tile.stop(); tile.remove(); });
    tiles.clear();
    draw();
  }

  function draw() {
    if (!total || !columns) return;
    const [first, last] = range();
    for (const [index, tile] of tiles) {
      if (index < first || index >= last || (tile.bare && item(index))) {
        if (tile.contains(document.activeElement)) focused = index;
        tile.stop();
        tile.remove();
        tiles.delete(index);
      }
    }
    for (let index = first; index < last; index += 1) {
      if (!tiles.has(index)) {
        const tile = makeTile(index);
        tiles.set(index, tile);
        grid.append(tile);
      }
    }
    walk();
  }

  function makeTile(index) {
    const scene = item(index);
    const tile = el("div", { class: "tile", role: "listitem", "aria-setsize": String(shown()), "aria-posinset": String(index + 1) });
    tile.style.transform = `translate(${(index % columns) * (side + GAP_PX)}px, ${Math.floor(index / columns) * height}px)`;
    tile.style.width = `${side}px`;
    tile.bare = !scene;
    tile.stop = () => {};
    if (!scene) {
      tile.append(el("div", { class: "tile-pic" }));
      return tile;
    }
    const image = el("img", { alt: "" });
    tile.stop = thumbnails.showSoon(image, thumbnail(scene.id));
    const selecting = isSelecting();
    const open = el("button", {
      type: "button", class: "tile-open", tabindex: index === focused ? "0" : "-1",
      ...(selecting && { "aria-pressed": String(isSelected(scene.id)) }),
      onfocus: () => { focused = index; },
      onclick: () => {
        if (!isSelecting()) { onopen(scene); return; }
        ontoggle(scene.id);
        open.setAttribute("aria-pressed", String(isSelected(scene.id)));
      },
    }, el("span", { class: "tile-pic" }, image),
    el("span", { class: "tile-name" }, words(scene.name), el("small", {}, plural(scene.people, "person", "people"))),
    el("span", { class: "tile-facts" },
      scene.camera && words(scene.camera), scene.camera && scene.at && " · ", scene.at && whenShort(scene.at)));
    tile.append(open);
    return tile;
  }

  function focusOn(index) {
    if (index < 0 || index >= shown()) return;
    focused = index;
    const row = Math.floor(index / columns);
    const top = grid.getBoundingClientRect().top + row * height;
    if (top < 80) scrollBy(0, top - 80);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
    draw();
    tiles.forEach((tile) => tile.querySelector("button")?.setAttribute("tabindex", "-1"));
    const open = tiles.get(index)?.querySelector("button");
    open?.setAttribute("tabindex", "0");
    open?.focus({ preventScroll: true });
  }

  const indexOf = (id) => {
    for (const [page, items] of pages) {
      const at = items.findIndex((one) => one.id === id);
      if (at >= 0) return page * PAGE + at;
    }
    return -1;
  };

  grid.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (step) { event.preventDefault(); focusOn(focused + step); }
    if (event.key === "Home") { event.preventDefault(); focusOn(0); }
  });
  let asked = false;
  addEventListener("scroll", () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; if (!signal.aborted) draw(); });
  }, { signal, passive: true });
  let width = 0;
  const sized = new ResizeObserver(() => {
    if (grid.clientWidth === width) { draw(); return; }
    width = grid.clientWidth;
    redraw();
  });
  sized.observe(grid);
  signal.addEventListener("abort", () => { sized.disconnect(); tiles?.forEach((tile) => tile.stop()); });
  reload();
  return {
    reload,
    redraw,
    /** The scene before or behind another. */
    beside: (id, by) => { const index = indexOf(id); return index < 0 ? undefined : item(index + by); },
    focus: (id) => { const index = indexOf(id); if (index >= 0) focusOn(index); },
  };
}
