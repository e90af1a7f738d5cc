// One hit: its card among the results, and the dialog that lets one understand it.

import { ask, contentPath, cropPath, pictures, sceneRecord, session, thumbnail, thumbnails } from "./api.js";
import { button, confirmed, decimal, el, openDialog, problemBox, put, sceneName, toast, when, whenText, words } from "./dom.js";
import { labelEditor } from "./labels.js";
import { cropUrl } from "./query.js";
import { Stage, place } from "./stage.js";

export function likelyMark(hit) {
  if (hit.likely_match !== true) return null;
  return el("span", { class: "likely", title: "When the model was tested, fewer than 1 % of pairs of different people were this similar." }, "Likely match");
}

const alt = (hit) => `Scene${hit.image.camera_id ? " of camera " + hit.image.camera_id : ""}`;

/** A card: crop, scene with the person outlined, figures, and "search again". */
export function hitCard(hit, { onopen, onagain }) {
  const crop = el("img", { class: "crop", alt: "", loading: "lazy" });
  const scene = el("img", { class: "scene", alt: alt(hit) });
  const outline = place(el("span", { class: "outline" }), hit.detection.box, hit.image.width, hit.image.height);
  const name = el("span", { class: "name" });
  const figure = (title, value, hint) =>
    el("div", { title: hint }, el("dt", {}, title), el("dd", {}, value));
  const open = el("button", {
    type: "button", class: "hit-open", tabindex: "-1", onclick: () => onopen(hit),
    "aria-label": `Hit ${hit.rank}, similarity ${decimal(hit.similarity, 2)}, detection ${decimal(hit.detection.detection_score, 2)}`
      + `${hit.likely_match ? ", likely match" : ""}${hit.image.camera_id ? ", camera " + hit.image.camera_id : ""}`
      + `${hit.image.captured_at ? ", " + whenText(hit.image.captured_at) : ""}. Open.`,
  }, el("span", { class: "crop-box" }, crop),
  el("span", { class: "scene-box" }, el("span", { class: "frame" }, scene, outline)));
  const shape = hit.image.width / hit.image.height;
  open.style.setProperty("--shape", shape); // of the scene; the crop beside it is as high
  const card = el("article", { class: "hit" }, open,
    el("div", { class: "hit-body" },
      el("div", { class: "row" }, el("span", { class: "rank" }, `#${hit.rank}`), likelyMark(hit),
        hit.detection.label && el("span", { class: "label" }, words(hit.detection.label)),
        el("span", { class: "grow" }),
        button("Search again", () => onagain(hit), { class: "small", "aria-label": "Search again from this one" })),
      el("dl", { class: "figures" },
        figure("Similarity", decimal(hit.similarity), "Cosine of the angle between the two people's embeddings, −1 to 1."),
        figure("Detection", decimal(hit.detection.detection_score), "How sure the model is that it is a person, 0 to 1."),
        hit.fmr !== null && figure("False match", rate(hit.fmr), "How often a different person reaches this score in one comparison, by the calibration.")),
      el("p", { class: "where" },
        hit.image.camera_id && el("span", {}, words(hit.image.camera_id)),
        hit.image.captured_at && when(hit.image.captured_at), name)));
  card.load = () => {
    thumbnails.show(scene, thumbnail(hit.image.id, 512));
    thumbnails.show(crop, cropPath(hit.detection.id));
    sceneRecord(hit.image.id).then((record) => put(name, words(sceneName(record))), () => {});
  };
  return card;
}

export function rate(value) {
  if (value >= 0.001) return `${(value * 100).toFixed(1)} %`;
  return value ? `1 in ${Math.round(1 / value).toLocaleString("en")}` : "none seen";
}

function part(title, value, hint, mark) {
  const bar = el("div", { class: "bar", "aria-hidden": "true" }, el("span", {}));
  bar.firstChild.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
  if (mark) {
    const line = el("i", {});
    line.style.left = `${mark * 100}%`;
    bar.append(line);
  }
  return el("div", { class: "part" },
    el("div", { class: "row" }, el("strong", {}, title), el("span", { class: "grow" }), el("span", { class: "figure" }, decimal(value))),
    bar, el("small", {}, hint));
}

/** The norm part and the angle part of a hit's score, side by side. */
export function explained(hit, index) {
  const norm = hit.detection.detection_score;
  return el("section", { class: "explained" },
    el("h3", {}, "Why this score"),
    el("div", { class: "parts" },
      part("Norm", norm, "Is it a person? The length of the embedding: the detection score."),
      part("Angle", hit.similarity, index.match_similarity === null
        ? "Is it the same person? The angle between the two embeddings: the similarity."
        : `Is it the same person? The angle between the two embeddings: the similarity. Above ${decimal(index.match_similarity, 2)} a match is likely.`,
      index.match_similarity)),
    el("p", { class: "sum" }, `Score ${decimal(hit.score)} = ${decimal(norm)} × ${decimal(hit.similarity)}. It decides the order; it is not a probability.`));
}

/** The dialog of a hit. `step(by)` gives the hit before or behind; returns what shall be done then. */
export function openHit(first, { index, queries, step, attentive, onremoved }) {
  return openDialog("Hit", (close, box) => {
    const holder = el("div", {});
    const show = (hit) => {
      put(box.querySelector("h2"), `Hit ${hit.rank} `, likelyMark(hit) || "");
      put(holder, content(hit));
    };
    const go = (by) => {
      const next = step(current, by);
      if (next) { current = next; show(next); }
    };
    let current = first;
    box.addEventListener("keydown", (event) => {
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.target.closest(".layer")) return;
      if (event.key === "ArrowRight") go(1);
      if (event.key === "ArrowLeft") go(-1);
    });

    function content(hit) {
      const stage = new Stage({
        onpick: (person) => close({ again: { detection: person.id } }),
        label: (person, n) => `${person.label ? person.label + ", p" : "P"}erson ${n}, detection score ${decimal(person.detection_score, 2)}: search from this one`,
      });
      stage.show("", hit.image.width, hit.image.height);
      stage.image.alt = alt(hit);
      stage.setPeople([hit.detection]);
      stage.choose(hit.detection.box);
      pictures.show(stage.image, contentPath(hit.image.id), (problem) => stage.node.replaceWith(problemBox(problem)));
      const asked = el("img", { alt: "The person you searched for" });
      cropUrl(queries[hit.matched_query || 0]).then((url) => { asked.src = url; }, () => asked.remove());
      const seen = el("img", { alt: "The person in this hit" });
      thumbnails.show(seen, cropPath(hit.detection.id));
      const facts = el("dl", { class: "facts" });
      const people = el("p", { class: "hint" });
      sceneRecord(hit.image.id).then((record) => {
        stage.setPeople(record.detections);
        stage.choose(hit.detection.box);
        people.textContent = record.detections.length > 1 ? "Choose another person in the scene to search from them." : "";
        facts.append(...sceneFacts(record));
      }, (problem) => facts.append(problemBox(problem)));
      return [
        el("div", { class: "hit-view" },
          el("div", { class: "hit-scene" }, stage.node, people),
          el("div", { class: "hit-side" },
            el("div", { class: "versus" },
              el("figure", {}, el("div", { class: "pic" }, asked), el("figcaption", {}, "Asked for")),
              el("figure", {}, el("div", { class: "pic" }, seen, attentive && attention(hit)), el("figcaption", {}, "Found"))),
            explained(hit, index),
            hit.fmr !== null && el("p", { class: "hint" }, `By the calibration, a different person reaches this score in ${rate(hit.fmr)} of comparisons.`),
            facts,
            session.may("ingest") && labelEditor(hit.detection, { image: hit.image.id }))),
        el("div", { class: "row end actions" },
          button("‹ Before", () => go(-1), { disabled: !step(hit, -1) }),
          button("Next ›", () => go(1), { disabled: !step(hit, 1) }),
          el("span", { class: "grow" }),
          session.may("ingest") && button("Delete this person", () => remove(hit), { class: "danger-quiet" }),
          button("Add to the query", () => close({ add: { detection: hit.detection.id } })),
          button("Search again from this one", () => close({ again: { detection: hit.detection.id } }), { class: "main" })),
      ];
    }

    async function remove(hit) {
      const sure = await confirmed("Delete this person?", [
        "This deletes this one detection and its label for good, from every model's index. The scene and the other people in it stay. The picture still shows the person.",
      ], "Delete this person");
      if (!sure) return;
      try {
        await ask("DELETE", `/gallery/detections/${hit.detection.id}`);
        toast("The person was deleted.");
        close();
        onremoved(hit);
      } catch (problem) {
        holder.prepend(problemBox(problem));
      }
    }
    show(first);
    return holder;
  }, { wide: true });
}

/** What is known about a scene, as terms and descriptions. */
export function sceneFacts(record) {
  const fact = (title, value) => value && [el("dt", {}, title), el("dd", {}, value)];
  return [
    fact("Scene", words(sceneName(record))),
    fact("Camera", record.camera_id && words(record.camera_id)),
    fact("Taken", record.captured_at && when(record.captured_at)),
    fact("Added", when(record.created_at)),
    fact("Tags", record.tags.length > 0 && record.tags.map((tag) => el("span", { class: "tag" }, words(tag)))),
    fact("Size", `${record.width} × ${record.height}, ${record.format}`),
  ].flat().filter(Boolean);
}

/** A switch that lays over the crop what an NAE+ looks at. */
function attention(hit) {
  const over = el("img", { class: "attention", alt: "", hidden: true });
  let asked = false;
  const toggle = button("Attention", () => {
    over.hidden = !over.hidden;
    toggle.setAttribute("aria-pressed", String(!over.hidden));
    if (asked) return;
    asked = true;
    pictures.show(over, `/gallery/detections/${hit.detection.id}/attention`, (problem) => {
      toggle.replaceWith(el("small", {}, problem.detail));
    });
  }, { class: "small over", "aria-pressed": "false", title: "Where the model sees a person. The redder, the surer." });
  return [over, toggle];
}
