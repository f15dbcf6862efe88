// Everything of the editor but its viewport: buttons, timeline, keys, status. It knows no path; the editor fills it.
import { OUTSIDE, timeGradient } from "./shapes.js";
import { EASINGS, PRESETS } from "./state.js";
import { STYLE } from "./style.js";

const PLAY = '<svg width="12" height="12" viewBox="0 0 12 12"><path d="M2 1l9 5-9 5z"/></svg>';
const PAUSE = '<svg width="12" height="12" viewBox="0 0 12 12"><path d="M2 1h3v10H2zM7 1h3v10H7z"/></svg>';
const HELP =
  "Drag: turn the view. Right drag: move it. Wheel: nearer. Keys: drag over the ground, Shift up and down; blue dot: direction. " +
  "Double-click a picture: add its camera. Del, Ctrl+Z/Y, Space, arrows, A, C, F, U, 1-9, Alt+arrows: order.";
const HELP_THROUGH = "Wheel, arrows: time. Space: play. C: back to all cameras.";

const BUTTONS = {
  add: ["Add key", "A key where the view stands now (A)"],
  remove: ["Delete", "Delete the chosen key (Delete)"],
  undo: ["Undo", "Ctrl+Z"],
  redo: ["Redo", "Ctrl+Y or Ctrl+Shift+Z"],
  frame: ["Frame all", "Show everything (F)"],
  text: ["Text", "The path as text, to copy and paste"],
  update: ["Update path", "Have the path computed, without rendering (U)"],
  play: [PLAY, "Play or pause (Space)"],
  through: ["Camera", "Look through the path's camera, the nearest input picture behind (C)"],
  earlier: ["Earlier", "Move the chosen key to the front (Alt+Left)"],
  later: ["Later", "Move the chosen key to the back (Alt+Right)"],
  loop: ["Closed", "Come back to the first key"],
  live: ["Live", "Live view: draw a draft of what the camera sees, with one step, whenever it rests"],
};

function make(tag, className, parent, properties = {}) {
  const element = Object.assign(document.createElement(tag), { className }, properties);
  parent?.append(element);
  return element;
}

const within = (box, { clientX: x, clientY: y }) => x >= box.left && x < box.right && y >= box.top && y < box.bottom;

function addStyle() {
  if (document.getElementById("scenetok-editor-style")) return;
  make("style", "", document.head, { id: "scenetok-editor-style", textContent: STYLE });
}

export class Panel {
  /** `act(name, value)`: a button was pressed, a value changed. */
  constructor(act) {
    addStyle();
    this.act = act;
    this.buttons = {};
    this.root = make("div", "st-editor", null);
    this.focus = make("textarea", "st-focus", this.root, { readOnly: true, ariaLabel: "Path editor" });
    this.addTools();
    this.addView();
    this.addTimeline();
    this.addKeys();
    const row = make("div", "st-row", this.root);
    this.status = make("div", "st-status", row);
    this.root.addEventListener("pointerdown", (event) => event.stopPropagation());
    this.root.addEventListener("click", (event) => this.keepFocus(event));
  }

  keepFocus(event) {
    if (!event.target.closest("select, input[type=number], .st-text")) this.focus.focus({ preventScroll: true });
  }

  button(name, parent, className = "") {
    const [label, title] = BUTTONS[name];
    const button = make("button", className, parent, { type: "button", title, innerHTML: label });
    button.dataset.action = name;
    button.addEventListener("click", () => this.act(name));
    this.buttons[name] = button;
  }

  addTools() {
    const row = make("div", "st-row", this.root);
    make("span", "st-none", row, { textContent: "Presets" });
    const presets = make("div", "st-group", row);
    for (const name of Object.keys(PRESETS)) {
      const button = make("button", "", presets, { type: "button", textContent: name, title: `Begin with the path ${name}` });
      button.dataset.preset = name;
      button.addEventListener("click", () => this.act("preset", name));
    }
    make("div", "st-space", row);
    const tools = make("div", "st-group", row);
    for (const name of ["undo", "redo", "frame", "text"]) this.button(name, tools);
  }

  addView() {
    this.view = make("div", "st-view", this.root);
    this.frame = make("div", "st-frame", this.view, { hidden: true });
    this.help = make("div", "st-help", this.view, { textContent: HELP });
    this.live = make("div", "st-live", this.view, { hidden: true });
    this.picture = make("img", "", this.live, { alt: "", draggable: false });
    make("span", "", this.live, { textContent: "draft, 1 step" });
    this.empty = make("div", "st-empty", this.view);
    make("div", "", this.empty, { textContent: "Run once to see the input cameras" });
    const run = make("button", "", this.empty, { type: "button", textContent: "Run this node" });
    run.addEventListener("click", () => this.act("update"));
    this.text = make("div", "st-text", this.view, { hidden: true });
    this.area = make("textarea", "", this.text, { spellcheck: false });
    const row = make("div", "st-row", this.text);
    make("div", "st-space", row);
    for (const [label, name] of [["Cancel", "text"], ["Apply", "apply"]]) {
      const button = make("button", "", row, { type: "button", textContent: label });
      button.dataset.action = name === "apply" ? "apply" : "cancel";
      button.addEventListener("click", () => this.act(name, this.area.value));
    }
  }

  addTimeline() {
    const row = make("div", "st-row", this.root);
    this.button("play", row, "st-play");
    const time = make("div", "st-time", row);
    this.slider = make("input", "", time, { type: "range", min: 0, max: 0, value: 0, step: 1 });
    this.seen = make("div", "st-seen", time);
    this.slider.style.background = timeGradient;
    this.slider.addEventListener("input", () => this.act("scrub", Number(this.slider.value)));
    this.number = make("div", "st-number", row);
    const group = make("div", "st-group", row);
    for (const name of ["through", "live", "update"]) this.button(name, group);
  }

  addKeys() {
    this.list = make("div", "st-keys", this.root);
    this.none = make("span", "st-none", this.list, { textContent: "No keys: the path follows the input cameras" });
    this.chips = [];
    const row = make("div", "st-row", this.root);
    const change = make("div", "st-group", row);
    for (const name of ["add", "remove", "earlier", "later"]) this.button(name, change);
    make("div", "st-space", row);
    const settings = make("div", "st-group", row);
    const title = "Vertical field of view of the chosen key in degrees; empty: the inputs'";
    const label = make("label", "", settings, { textContent: "FOV", title });
    this.fov = make("input", "", label, { type: "number", min: 1, max: 170, step: 1 });
    this.fov.addEventListener("change", () => this.act("fov", this.fov.value));
    this.easing = make("select", "", settings, { title: "How the pace changes" });
    for (const name of EASINGS) make("option", "", this.easing, { value: name, textContent: name });
    this.easing.addEventListener("change", () => this.act("easing", this.easing.value));
    this.button("loop", settings);
  }

  /** The keys as chips; they stay the same elements, so that one can be dragged and double-clicked. */
  showKeys(keys, chosen) {
    this.chips.splice(keys.length).forEach((chip) => chip.remove());
    while (this.chips.length < keys.length) this.addChip(this.chips.length);
    this.none.hidden = keys.length > 0;
    keys.forEach((key, i) => {
      const kind = "view" in key ? `input view ${key.view}` : "position" in key ? "looks at a point" : "free pose";
      this.chips[i].title = `Key ${i + 1}: ${kind}. Double-click: stand there. Drag: order.`;
      this.chips[i].classList.toggle("st-chosen", i === chosen);
    });
  }

  addChip(index) {
    const chip = make("button", "", this.list, { type: "button", textContent: index + 1 });
    chip.dataset.key = index;
    chip.addEventListener("pointerdown", () => this.act("choose", index));
    chip.addEventListener("dblclick", () => this.act("stand", index));
    this.chips.push(chip);
  }

  /** Let chips be dragged: `moved(from, to)` says that a key belongs elsewhere. */
  orderBy(moved) {
    this.list.addEventListener("pointerdown", (event) => {
      let from = this.chips.indexOf(event.target);
      if (from < 0) return;
      const move = (at) => {
        const to = this.chips.findIndex((chip) => within(chip.getBoundingClientRect(), at));
        if (to < 0 || to === from) return;
        moved(from, to);
        from = to;
      };
      const end = () => {
        window.removeEventListener("pointermove", move, true);
        window.removeEventListener("pointerup", end, true);
      };
      window.addEventListener("pointermove", move, true); // before the graph, which may keep it to itself
      window.addEventListener("pointerup", end, true);
    });
  }

  enable(name, on) {
    this.buttons[name].disabled = !on;
  }

  mark(name, on) {
    this.buttons[name].classList.toggle("st-on", on);
  }

  showPlaying(on) {
    this.buttons.play.innerHTML = on ? PAUSE : PLAY;
  }

  /** Where the path is; below the timeline, red, the frames that leave what was seen. */
  showTime(frame, count, outside) {
    Object.assign(this.slider, { max: Math.max(0, count - 1), value: frame });
    const share = (place) => `${((100 * place) / count).toFixed(2)}%`;
    const red = outside.map((i) => `transparent ${share(i)}, ${OUTSIDE} ${share(i)} ${share(i + 1)}, transparent ${share(i + 1)}`);
    this.seen.style.background = red.length ? `linear-gradient(90deg, ${red.join(", ")})` : "";
    this.number.textContent = count ? `${frame + 1} / ${count}` : "";
  }

  /** The letterbox around the path's picture; null: none. */
  showFrame(box) {
    this.frame.hidden = !box;
    this.help.textContent = box ? HELP_THROUGH : HELP;
    if (box) ["left", "top", "width", "height"].forEach((side, i) => (this.frame.style[side] = `${box[i]}px`));
  }

  say(text, kind = "") {
    this.status.textContent = this.status.title = text;
    this.status.className = `st-status ${kind ? `st-${kind}` : ""}`;
  }
}
