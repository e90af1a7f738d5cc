// One scene with its people: look, search, label, delete.

import { ask, contentPath, cropPath, forgetScene, pictures, sceneRecord, session, thumbnails } from "./api.js";
import { button, confirmed, decimal, el, openDialog, plural, problemBox, put, say, sceneName, toast, words } from "./dom.js";
import { sceneFacts } from "./hit.js";
import { labelEditor } from "./labels.js";
import { searchFor } from "./search.js";
import { Stage } from "./stage.js";

/** Open a scene. `next(id, by)` gives the one beside it. Resolves to {id} or {removed}. */
export function openScene(first, { next = () => undefined } = {}) {
  return openDialog("Scene", (close, box) => {
    const holder = el("div", {}, el("p", { class: "hint busy" }, "Loading …"));
    let current = first;
    box.addEventListener("keydown", (event) => {
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.target.closest(".layer")) return;
      if (event.key === "ArrowRight") go(1);
      if (event.key === "ArrowLeft") go(-1);
    });
    box.addEventListener("close", () => { box.returned = box.returned || { id: current }; }, { capture: true });
    show();
    return holder;

    function go(by) {
      const beside = next(current, by);
      if (!beside) return;
      current = beside.id;
      show();
    }

    async function show() {
      const id = current;
      try {
        const record = await sceneRecord(id, { fresh: true });
        if (id !== current) return;
        draw(record);
      } catch (problem) {
        put(holder, problemBox(problem, { retry: show }));
      }
    }

    function draw(record) {
      put(box.querySelector("h2"), words(sceneName(record)));
      const search = (query) => { close({ id: current, left: true }); searchFor(query); };
      const stage = new Stage({
        onpick: (person) => search({ detection: person.id }),
        ondraw: (drawn) => search({ image: record.id, box: drawn }),
        label: (person, n) => `${person.label ? person.label + ", p" : "P"}erson ${n}, detection score ${decimal(person.detection_score, 2)}: search for them`,
      });
      stage.show("", record.width, record.height);
      stage.image.alt = `The scene ${sceneName(record)}`;
      stage.setPeople(record.detections);
      pictures.show(stage.image, contentPath(record.id), (problem) => stage.node.replaceWith(problemBox(problem)));
      const may = session.may("ingest");
      put(holder,
        el("div", { class: "hit-view" },
          el("div", { class: "hit-scene" }, stage.node,
            el("p", { class: "hint" }, record.detections.length
              ? "Choose a person, or draw a box, to search for them."
              : "Nobody was found in this scene. Draw a box to search for somebody anyway."),
            el("div", { class: "row" }, stage.drawButton())),
          el("div", { class: "hit-side" },
            el("dl", { class: "facts" }, sceneFacts(record)),
            el("h3", {}, plural(record.detections.length, "person", "people")),
            el("ul", { class: "people" }, record.detections.map((person, index) => personRow(person, index, record, stage, search))))),
        el("div", { class: "row end actions" },
          button("‹ Before", () => go(-1), { disabled: !next(current, -1) }),
          button("Next ›", () => go(1), { disabled: !next(current, 1) }),
          el("span", { class: "grow" }),
          may && button("Delete this scene …", () => remove(record), { class: "danger-quiet" })));
    }

    function personRow(person, index, record, stage, search) {
      const image = el("img", { alt: "" });
      thumbnails.show(image, cropPath(person.id));
      const label = el("span", {}, person.label ? words(person.label) : `Person ${index + 1}`);
      const light = () => stage.choose(person.box);
      return el("li", { onpointerenter: light, onfocusin: light, onpointerleave: () => stage.choose(null) },
        el("span", { class: "thumb" }, image),
        el("div", { class: "grow" },
          el("div", { class: "row" }, label, el("small", {}, `detection ${decimal(person.detection_score, 2)}`)),
          el("div", { class: "row" },
            button("Search", () => search({ detection: person.id }), { class: "small", "aria-label": `Search for person ${index + 1}` }),
            session.may("ingest") && el("details", { class: "label-more" }, el("summary", {}, "Label"),
              labelEditor(person, {
                image: record.id,
                onchange: (text) => put(label, text ? words(text) : `Person ${index + 1}`),
              })))));
    }

    async function remove(record) {
      const labels = record.detections.filter((one) => one.label).length;
      const sure = await confirmed("Delete this scene?", [
        `Its picture goes, and ${plural(record.detections.length, "person", "people")}${labels ? ` with ${plural(labels, "label")}` : ""}, from every model's index. No search finds them any more.`,
        "This cannot be undone.",
      ], "Delete this scene");
      if (!sure) return;
      try {
        await ask("DELETE", `/gallery/images/${record.id}`);
        forgetScene(record.id);
        toast("The scene was deleted.");
        say("The scene was deleted.");
        close({ removed: record.id });
      } catch (problem) {
        holder.prepend(problemBox(problem));
      }
    }
  }, { wide: true });
}
