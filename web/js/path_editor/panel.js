// Everything of the editor but its viewport: buttons, timeline, keys, status. It knows no path; the editor fills it.
import { OUTSIDE, timeGradient } from "./shapes.js";
import { EASINGS, PRESETS } from "./state.js";
import { STYLE } from "./style.js";

const PLAY = '<svg width="12" height="12" viewBox="0 0 12 12"><path d="M2 1l9 5-9 5z"/></svg>';
const PAUSE = '<svg width="12" height="12" viewBox="0 0 12 12"><path d="M2 1h3v10H2zM7 1h3v10H7z"/></svg>';
const HINT = "Drag to turn the view, right-drag to move it, wheel to zoom. Double-click a picture to add its camera.";
const HINT_THROUGH = "Wheel or arrow keys: time. Space: play. C: back to all cameras.";
const HELP = [
  ["View"],
  ["drag", "turn"],
  ["right-drag, Ctrl+drag", "move"],
  ["wheel", "nearer, farther"],
  ["F", "show everything"],
  ["C", "look through the camera, and back"],
  ["Time"],
  ["Left, Right", "one frame back, on"],
  ["Space", "play, pause"],
  ["U", "update the path"],
  ["Keys"],
  ["A", "add one where the view stands"],
  ["double-click on a picture", "add its camera"],
  ["drag a key's dot", "move over the ground"],
  ["Shift+drag", "up and down"],
  ["drag the blue dot", "turn the chosen key"],
  ["1 to 9", "choose"],
  ["double-click on a number", "stand where the key stands"],
  ["Alt+Left, Alt+Right", "let it come earlier, later"],
  ["Delete", "delete"],
  ["Ctrl+Z, Ctrl+Y", "undo, redo"],
];

const BUTTONS = {
  add: ["Add key", "Add a key where the view stands now, after the chosen one (A)"],
  remove: ["Delete", "Delete the chosen key (Delete)"],
  undo: ["Undo", "Undo the last change of the path (Ctrl+Z)"],
  redo: ["Redo", "Redo it (Ctrl+Y or Ctrl+Shift+Z)"],
  frame: ["Show all", "Show all cameras and keys (F)"],
  text: ["Text", "The path as text, to copy, paste and edit"],
  help: ["Help", "Mouse and keyboard (?)"],
  update: ["Update path", "Compute the smooth path through the keys, without rendering (U)"],
  play: [PLAY, "Play or pause (Space)"],
  through: ["Look through", "Look through the path's camera; behind, the nearest input picture (C)"],
  earlier: ["Earlier", "Let the chosen key come earlier (Alt+Left)"],
  later: ["Later", "Let the chosen key come later (Alt+Right)"],
  loop: ["Closed path", "Come back to the first key"],
  live: ["Live draft", "Whenever the camera rests, draw a draft of what it sees, with one step, through the queue"],
};

const PRESET_TITLES = {
  Follow: "Through the input cameras in their order",
  Orbit: "Once around what the input cameras look at",
  Arc: "60 degrees around it, past the middle camera",
  Dolly: "From the middle camera towards it",
  Loop: "Through the input cameras and back to the first",
};

const EMPTY = {
  connect: "Connect cameras, and images, of Load Views to see them here",
  run: "Run once to see the input cameras",
  pictures: "(connect images, too, to see their pictures)",
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
      const title = `${PRESET_TITLES[name]}: replaces the keys`;
      const button = make("button", "", presets, { type: "button", textContent: name, title });
      button.dataset.preset = name;
      button.addEventListener("click", () => this.act("preset", name));
    }
    make("div", "st-space", row);
    const tools = make("div", "st-group", row);
    for (const name of ["undo", "redo", "frame", "text", "help"]) this.button(name, tools);
  }

  addView() {
    this.view = make("div", "st-view", this.root);
    this.frame = make("div", "st-frame", this.view, { hidden: true });
    this.hint = make("div", "st-hint", this.view, { textContent: HINT });
    this.live = make("div", "st-live", this.view, { hidden: true });
    this.picture = make("img", "", this.live, { alt: "", draggable: false });
    make("span", "", this.live, { textContent: "draft, 1 step" });
    this.empty = make("div", "st-empty", this.view);
    this.invitation = make("div", "", this.empty);
    const title = "Reads the cameras and computes the path; renders nothing";
    this.run = make("button", "", this.empty, { type: "button", textContent: "Run this node", title });
    this.run.addEventListener("click", () => this.act("update"));
    this.addHelp();
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

  addHelp() {
    this.help = make("div", "st-help", this.view, { hidden: true });
    for (const [keys, action] of HELP) {
      if (action) {
        make("kbd", "", this.help, { textContent: keys });
        make("span", "", this.help, { textContent: action });
      } else make("b", "", this.help, { textContent: keys });
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
    const angle = "Field of view of the chosen key from top to bottom, in degrees (1 to 170); empty: as the inputs";
    this.fov = this.field("FOV", settings, angle, { min: 1, max: 170, step: 1 });
    this.fov.addEventListener("change", () => this.act("fov", this.fov.value));
    const pace = "Pace at the chosen key: 2 twice as fast as the rest, 0.5 half (0.05 to 20); empty: 1";
    this.speed = this.field("Speed", settings, pace, { min: 0.05, max: 20, step: 0.05, placeholder: "1" });
    this.speed.addEventListener("change", () => this.act("speed", this.speed.value));
    this.easing = make("select", "", settings, { title: "How the pace of the whole path changes" });
    for (const name of EASINGS) make("option", "", this.easing, { value: name, textContent: name });
    this.easing.addEventListener("change", () => this.act("easing", this.easing.value));
    this.button("loop", settings);
  }

  field(text, parent, title, properties) {
    const label = make("label", "", parent, { textContent: text, title });
    return make("input", "", label, { type: "number", ...properties });
  }

  /** What to do while there is nothing to see; `connected`: which inputs are. */
  showEmpty({ cameras, images }) {
    this.run.hidden = !cameras;
    this.invitation.textContent = cameras ? (images ? EMPTY.run : `${EMPTY.run} ${EMPTY.pictures}`) : EMPTY.connect;
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
    this.hint.textContent = box ? HINT_THROUGH : HINT;
    if (box) ["left", "top", "width", "height"].forEach((side, i) => (this.frame.style[side] = `${box[i]}px`));
  }

  say(text, kind = "") {
    this.status.textContent = this.status.title = text;
    this.status.className = `st-status ${kind ? `st-${kind}` : ""}`;
  }
}
