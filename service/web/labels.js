// Who people say somebody is.

import { ask, forgetScene } from "./api.js";
import { el, problemBox, put, say } from "./dom.js";

/** A form to label one detection. Labels feed measurements; they never change a ranking. */
export function labelEditor(detection, { image, onchange } = {}) {
  const input = el("input", { value: detection.label || "", maxlength: "255", dir: "auto", placeholder: "Who is it?", "aria-label": "Label" });
  const said = el("small", {}, "Labels are used for evaluation and calibration. They never change search results.");
  const save = async (event) => {
    event.preventDefault();
    const label = input.value.trim();
    try {
      if (label) await ask("PUT", `/gallery/detections/${detection.id}/label`, { json: { label } });
      else if (detection.label) await ask("DELETE", `/gallery/detections/${detection.id}/label`);
      detection.label = label || null;
      forgetScene(image);
      said.textContent = label ? "Saved." : "The label was removed.";
      say(said.textContent);
      onchange?.(detection.label);
    } catch (problem) {
      put(said, problemBox(problem));
    }
  };
  return el("form", { class: "label-form", onsubmit: save },
    el("div", { class: "row" }, input, el("button", { type: "submit", class: "small" }, "Save label")), said);
}
