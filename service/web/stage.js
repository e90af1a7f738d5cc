// A picture with its people outlined: choose one, or draw a box, by mouse, finger or keys.

import { arrows, button, el, put } from "./dom.js";

const LEAST_PX = 6; // of the picture, for a box to be meant

/** Lay a box of a picture over it, in percent, so that it fits at any size. */
export function place(node, box, width, height) {
  Object.assign(node.style, {
    left: `${(box.x1 / width) * 100}%`,
    top: `${(box.y1 / height) * 100}%`,
    width: `${((box.x2 - box.x1) / width) * 100}%`,
    height: `${((box.y2 - box.y1) / height) * 100}%`,
  });
  return node;
}

export class Stage {
  /** `onpick(person)` for an outlined one, `ondraw(box)` for a drawn one; without it, no drawing. */
  constructor({ onpick, ondraw, label = (person, n) => `Person ${n}, detection score ${person.detection_score.toFixed(2)}` }) {
    Object.assign(this, { onpick, ondraw, label, people: [], width: 0, height: 0 });
    this.image = el("img", { alt: "", draggable: "false" });
    this.layer = el("div", { class: "layer" });
    this.node = el("div", { class: "stage" }, this.image, this.layer);
    arrows(this.layer, ".person");
    if (ondraw) this.#drawing();
  }

  show(url, width, height) {
    Object.assign(this, { width, height });
    this.image.src = url;
    this.node.style.aspectRatio = `${width} / ${height}`;
    this.node.style.setProperty("--shape", width / height);
    this.setPeople([]);
  }

  /** People: {box, detection_score, …}, as detections are. Small ones lie above large ones. */
  setPeople(people) {
    this.people = people;
    const area = (box) => (box.x2 - box.x1) * (box.y2 - box.y1);
    this.drawn = null;
    put(this.layer, people.map((person, index) => {
      const made = button("", () => this.onpick?.(person), {
        class: "person", "aria-label": this.label(person, index + 1), title: this.label(person, index + 1),
        tabindex: index ? "-1" : "0",
      });
      made.style.zIndex = String(1 + people.filter((other) => area(other.box) > area(person.box)).length);
      return place(made, person.box, this.width, this.height);
    }));
  }

  /** Mark the person or the box that is meant; null for nobody. */
  choose(box) {
    const same = (other) => box && other && ["x1", "y1", "x2", "y2"].every((side) => other[side] === box[side]);
    let known = false;
    [...this.layer.querySelectorAll(".person")].forEach((node, index) => {
      const chosen = Boolean(same(this.people[index]?.box));
      known ||= chosen;
      node.classList.toggle("chosen", chosen);
      node.setAttribute("aria-pressed", String(chosen));
    });
    this.layer.classList.toggle("has-chosen", Boolean(box));
    if (box && !known) this.#drawnBox(box);
    else this.#clearDrawn();
  }

  /** A box in the middle, to be moved by keys. */
  drawByKeys() {
    const { width, height } = this;
    this.#drawnBox({ x1: width * 0.42, y1: height * 0.3, x2: width * 0.58, y2: height * 0.8 });
    this.drawn.focus();
  }

  /** A button to draw without a mouse: fingers, which scroll otherwise, then draw; keys move a box. */
  drawButton() {
    const made = button("Draw a box", (event) => {
      if (event.detail === 0 || !matchMedia("(pointer: coarse)").matches) { this.drawByKeys(); return; }
      const on = this.node.classList.toggle("drawing");
      made.setAttribute("aria-pressed", String(on));
    }, { "aria-pressed": "false" });
    return made;
  }

  #clearDrawn() {
    this.drawn?.remove();
    this.drawn = null;
  }

  #drawnBox(box) {
    if (!this.drawn) {
      this.drawn = button("", () => this.ondraw(this.#whole(this.drawn.box)), {
        class: "person drawn chosen",
        "aria-label": "Your box. Arrow keys move it, with Shift they change its size, Enter searches, Escape removes it.",
        onkeydown: (event) => this.#keys(event),
      });
      this.layer.append(this.drawn);
    }
    this.drawn.box = box;
    place(this.drawn, box, this.width, this.height);
  }

  #whole(box) {
    const inside = (value, most) => Math.round(Math.max(0, Math.min(value, most)) * 10) / 10;
    return {
      x1: inside(box.x1, this.width), y1: inside(box.y1, this.height),
      x2: inside(box.x2, this.width), y2: inside(box.y2, this.height),
    };
  }

  #keys(event) {
    const along = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") {
      event.stopPropagation();
      event.preventDefault();
      this.#clearDrawn();
      this.layer.querySelector(".person")?.focus();
    }
    if (!along) return;
    event.preventDefault();
    const step = Math.max(this.width, this.height) / 100;
    const [dx, dy] = [along[0] * step, along[1] * step];
    const box = { ...this.drawn.box };
    if (event.shiftKey) {
      box.x2 = Math.min(this.width, Math.max(box.x1 + LEAST_PX, box.x2 + dx));
      box.y2 = Math.min(this.height, Math.max(box.y1 + LEAST_PX, box.y2 + dy));
    } else {
      const x = Math.max(-box.x1, Math.min(dx, this.width - box.x2));
      const y = Math.max(-box.y1, Math.min(dy, this.height - box.y2));
      Object.assign(box, { x1: box.x1 + x, x2: box.x2 + x, y1: box.y1 + y, y2: box.y2 + y });
    }
    this.#drawnBox(box);
  }

  #drawing() {
    let from = null, rubber = null, drew = false;
    // The click that ends a drawing is not a choice of the person below.
    this.layer.addEventListener("click", (event) => { if (drew) event.stopPropagation(); }, true);
    const at = (event) => {
      const seen = this.layer.getBoundingClientRect();
      return {
        x: Math.max(0, Math.min(1, (event.clientX - seen.left) / seen.width)) * this.width,
        y: Math.max(0, Math.min(1, (event.clientY - seen.top) / seen.height)) * this.height,
      };
    };
    const stop = () => { from = null; rubber?.remove(); rubber = null; };
    this.layer.addEventListener("pointerdown", (event) => {
      const finger = event.pointerType === "touch";
      if (event.button || (finger && !this.node.classList.contains("drawing"))) return;
      from = { ...at(event), clientX: event.clientX, clientY: event.clientY };
    });
    this.layer.addEventListener("pointermove", (event) => {
      if (!from) return;
      const far = Math.hypot(event.clientX - from.clientX, event.clientY - from.clientY);
      if (!rubber && far < 5) return;
      if (!rubber) {
        rubber = el("div", { class: "rubber" });
        this.layer.append(rubber);
        this.layer.setPointerCapture(event.pointerId);
      }
      const to = at(event);
      rubber.box = {
        x1: Math.min(from.x, to.x), y1: Math.min(from.y, to.y),
        x2: Math.max(from.x, to.x), y2: Math.max(from.y, to.y),
      };
      place(rubber, rubber.box, this.width, this.height);
    });
    this.layer.addEventListener("pointerup", () => {
      const box = rubber?.box;
      drew = Boolean(rubber);
      setTimeout(() => { drew = false; });
      stop();
      if (box && box.x2 - box.x1 >= LEAST_PX && box.y2 - box.y1 >= LEAST_PX) this.ondraw(this.#whole(box));
    });
    this.layer.addEventListener("pointercancel", stop);
  }
}
