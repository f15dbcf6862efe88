// The camera path editor: its state is one text; every change writes it, every look at it reads it.
import { Panel } from "./panel.js";
import * as state from "./state.js";
import { loadThree, THREE } from "./three.js";
import { matrixOf } from "./shapes.js";
import { Viewport } from "./viewport.js";

const FRAMES_PER_SECOND = 24;
const LIMITS = { fov: [1, 170], speed: [0.05, 20] }; // of what a key may have
const LOADED = 3; // looks at the host after which its workflow is the one that is open

export class PathEditor {
  /**
   * `host`: `text` (get, set), `frames` (null: known after a run only), `fixed` (the text comes from a link), `connected`
   * ({cameras, images}), `open` (its workflow is), `changed()` (a change is complete), `url(file)`, `update()` (a promise),
   * `kept` (the scene of a workflow that was put aside, if any).
   */
  constructor(host) {
    this.host = host;
    this.panel = new Panel((name, value) => this.act(name, value));
    this.panel.orderBy((from, to) => this.reorder(from, to));
    this.path = { keys: [], loop: false, easing: "linear" };
    this.text = null;
    this.chosen = null;
    this.at = 0;
    this.through = false;
    this.panel.root.addEventListener("keydown", (event) => this.key(event));
    this.open();
    this.watch = setInterval(() => this.follow(), 300);
  }

  get element() {
    return this.panel.root;
  }

  dispose() {
    this.gone = true;
    clearInterval(this.watch);
    this.play(false);
    this.live?.dispose();
    this.viewport?.dispose();
    this.viewport = null;
  }

  // --- the state ---

  /** A workflow has been loaded into the node. */
  open() {
    this.looks = 0;
    this.begin();
  }

  /** Nothing can be undone that was there when the workflow was opened. */
  begin() {
    this.history = new state.History(this.host.text);
    this.read();
  }

  /** The text may change without the editor: undo of the graph, a loaded workflow, a script. */
  follow() {
    this.looks += 1;
    if (this.looks > LOADED && !this.host.open) return this.dispose();
    if (this.looks === LOADED && !this.scene && this.host.kept) this.receive(this.host.kept);
    if (this.host.text !== this.text && this.looks <= LOADED) this.begin(); // the page brings values after its nodes
    else if (this.host.text !== this.text) {
      this.history.push(this.host.text);
      this.read();
    } else if (this.host.frames !== this.shownFrames) this.show();
    if (!this.scene) this.panel.showEmpty(this.host.connected);
  }

  read() {
    this.text = this.host.text;
    try {
      this.path = state.readPath(this.text);
      this.broken = null;
    } catch (error) {
      this.broken = error.message;
      this.path = { keys: [], loop: false, easing: "linear" };
    }
    if (this.chosen !== null && this.chosen >= this.path.keys.length) this.chosen = this.path.keys.length - 1;
    if (this.chosen === -1) this.chosen = null;
    this.show();
  }

  /** Take a new path; `remember`: it can be undone. */
  change(path, chosen = this.chosen, remember = true) {
    if (this.host.fixed) {
      this.say("The text comes from another node; unlink keyframes to edit it", "warn");
      return;
    }
    this.path = { ...this.path, ...path };
    this.chosen = chosen;
    this.write(state.writePath(this.path), remember);
  }

  write(text, remember) {
    this.host.text = text;
    if (remember) this.history.push(text);
    this.read();
    if (remember) this.host.changed();
  }

  step(by) {
    this.write(this.history.step(by), false);
    this.host.changed();
  }

  addKey(key) {
    const at = this.chosen === null ? this.path.keys.length : this.chosen + 1;
    this.change({ keys: this.path.keys.toSpliced(at, 0, key) }, at);
  }

  reorder(from, to) {
    if (to < 0 || to >= this.path.keys.length || from === to) return;
    this.change({ keys: this.path.keys.toSpliced(from, 1).toSpliced(to, 0, this.path.keys[from]) }, to);
  }

  drag(index, point, isHandle) {
    if (this.host.fixed) return;
    const key = this.path.keys[index];
    const aim = isHandle ? state.aimedKey(key, point, this.scene) : state.movedKey(key, point, this.scene);
    this.change({ keys: this.path.keys.with(index, aim) }, index, false);
  }

  dropped() {
    this.history.push(this.text);
    this.show();
    this.host.changed();
  }

  // --- what Python answered ---

  /** The result of the last run. */
  async receive(scene) {
    this.scene = scene;
    try {
      await loadThree();
      if (this.gone) return;
      this.viewport ??= new Viewport(this.panel.view, {
        moved: () => this.moved(),
        chosen: (index) => this.act("choose", index),
        dragged: (...what) => this.drag(...what),
        dropped: () => this.dropped(),
        view: (view) => this.addKey({ view }),
        scrub: (by) => this.scrub(this.at + by),
        resized: () => this.showThrough(),
      });
    } catch (error) {
      this.panel.empty.hidden = true;
      this.say(`No 3-D view (${error.message}); the path can be written as text`, "bad");
      return;
    }
    this.panel.empty.hidden = true;
    this.viewport.showScene(scene, this.host.url);
    this.show();
  }

  /** Whether the path that Python made belongs to the text and frames of now. */
  get fresh() {
    return this.scene?.state === this.text && this.scene.path.c2w.length === this.count;
  }

  get count() {
    return this.scene ? (this.host.frames ?? this.scene.path.c2w.length) : 0;
  }

  /** Camera at a frame: Python's, or, until it has computed the new path, one on straight ways between the keys. */
  cameraAt(frame) {
    const { path } = this.scene;
    const { keys } = this.path;
    if (this.fresh || !keys.length) {
      const i = Math.min(frame, path.c2w.length - 1);
      return [path.c2w[i], path.K[i]];
    }
    const segments = this.path.loop ? keys.length : keys.length - 1;
    const place = (segments * frame) / Math.max(1, this.path.loop ? this.count : this.count - 1);
    const before = Math.min(Math.floor(place), Math.max(0, segments - 1));
    const [a, b] = [keys[before], keys[(before + 1) % keys.length]];
    const [from, to] = [a, b].map((key) => matrixOf(state.keyPose(key, this.scene)));
    const parts = () => [new THREE.Vector3(), new THREE.Quaternion(), new THREE.Vector3()];
    const [start, end] = [parts(), parts()];
    from.decompose(...start);
    to.decompose(...end);
    start[0].lerp(end[0], place - before);
    start[1].slerp(end[1], place - before);
    const e = new THREE.Matrix4().compose(start[0], start[1], new THREE.Vector3(1, 1, 1)).elements;
    const rows = [0, 1, 2].map((i) => [e[i], -e[4 + i], -e[8 + i], e[12 + i]]);
    return [[...rows, [0, 0, 0, 1]], state.keyIntrinsics(a, this.scene)];
  }

  // --- showing it ---

  show() {
    const { panel, path, scene, history } = this;
    this.shownFrames = this.host.frames;
    panel.showKeys(path.keys, this.chosen);
    panel.easing.value = path.easing;
    panel.mark("loop", path.loop);
    panel.mark("through", this.through);
    panel.mark("live", Boolean(this.live?.on));
    const chosen = this.chosen === null ? null : path.keys[this.chosen];
    panel.fov.disabled = !chosen;
    panel.fov.value = chosen?.fov ?? "";
    panel.speed.disabled = !chosen;
    panel.speed.value = chosen?.speed ?? "";
    if (scene && chosen) panel.fov.placeholder = state.fieldOfView(state.keyIntrinsics(chosen, scene)).toFixed(0);
    const able = { remove: chosen, earlier: this.chosen > 0, later: chosen && this.chosen < path.keys.length - 1 };
    Object.assign(able, { undo: history.canUndo, redo: history.canRedo });
    for (const name of ["add", "frame", "play", "through", "live"]) able[name] = this.viewport;
    for (const [name, on] of Object.entries(able)) panel.enable(name, Boolean(on));
    panel.root.querySelectorAll("[data-preset]").forEach((button) => (button.disabled = !scene));
    panel.buttons.update.classList.toggle("st-stale", Boolean(scene) && !this.fresh);
    if (!scene) return this.say(this.broken ?? "", this.broken ? "bad" : "");
    this.showStatus();
    if (!this.viewport) return;
    this.at = Math.min(this.at, this.count - 1);
    const stale = !this.fresh;
    this.viewport.showPath(scene.path.c2w, scene.outside, stale);
    this.viewport.showKeys(path.keys, this.chosen, { loop: path.loop, straight: stale });
    this.showFrame();
  }

  showStatus() {
    if (this.broken) this.say(`The text cannot be read: ${this.broken}`, "bad");
    else if (!this.fresh) this.say("Changed: straight lines until you press Update path, or run", "warn");
    else this.say(this.scene.report, this.scene.outside.length ? "warn" : "");
  }

  say(text, kind) {
    this.panel.say(text, kind);
  }

  showFrame() {
    const [pose, K] = this.cameraAt(this.at);
    this.viewport.showCamera(pose, K, this.at / Math.max(1, this.count - 1));
    this.panel.showTime(this.at, this.count, this.fresh ? this.scene.outside : []);
    this.showThrough(pose, K);
  }

  showThrough(pose, K) {
    if (!this.viewport) return;
    if (!pose) [pose, K] = this.cameraAt(this.at);
    this.viewport.lookThrough(this.through ? pose : null, K);
    this.panel.showFrame(this.through ? this.viewport.pictureFrame(this.viewport.aspect(K)) : null);
    if (this.through) this.moved();
  }

  scrub(frame) {
    if (!this.viewport || !this.count) return;
    this.at = (frame + this.count) % this.count;
    this.showFrame();
  }

  play(on) {
    clearInterval(this.timer);
    this.timer = null;
    if (on) this.timer = setInterval(() => this.scrub(this.at + 1), 1000 / FRAMES_PER_SECOND);
    this.panel.showPlaying(on);
  }

  // --- the live view ---

  /** The camera moved: the editor's own, or the path's when one looks through it. */
  moved() {
    if (!this.live?.on || this.timer) return;
    const { viewport, scene } = this;
    const key = this.through
      ? { c2w: this.cameraAt(this.at)[0], fov: state.fieldOfView(this.cameraAt(this.at)[1]) }
      : state.standingKey(viewport.position, viewport.target, scene);
    this.live.moved(state.writePath({ keys: [key], loop: false, easing: "linear" }));
  }

  toggleLive() {
    this.live.switch(!this.live.on);
    this.showLive();
    this.moved();
  }

  /** The live view was switched on or off. */
  showLive() {
    this.panel.live.hidden = true;
    this.show();
  }

  showDraft(file) {
    if (!this.live.on) return;
    this.panel.picture.src = this.host.url(file);
    this.panel.live.hidden = false;
  }

  // --- what the user does ---

  async act(name, value) {
    const { path, viewport, scene } = this;
    const { chosen } = this;
    if (name === "preset" && scene) {
      this.change(state.PRESETS[value](scene), null);
      viewport?.frameAll();
    }
    if (name === "add" && viewport) this.addKey(state.standingKey(viewport.position, viewport.target, scene));
    else if (name === "remove" && chosen !== null) {
      const left = path.keys.length - 1;
      this.change({ keys: path.keys.toSpliced(chosen, 1) }, left ? Math.min(chosen, left - 1) : null);
    } else if (name === "earlier" && chosen !== null) this.reorder(chosen, chosen - 1);
    else if (name === "later" && chosen !== null) this.reorder(chosen, chosen + 1);
    else if (name === "undo") this.step(-1);
    else if (name === "redo") this.step(1);
    else if (name === "loop") this.change({ loop: !path.loop });
    else if (name === "easing") this.change({ easing: value });
    else if (name in LIMITS && chosen !== null) this.setNumber(name, value);
    else if (name === "choose" && value < path.keys.length) {
      this.chosen = value;
      this.show();
    } else if (name === "stand" && viewport) viewport.standAt(state.keyPose(path.keys[value], scene));
    else if (name === "frame") viewport?.frameAll();
    else if (name === "scrub") this.scrub(value);
    else if (name === "play" && viewport) this.play(!this.timer);
    else if (name === "through" && viewport) {
      this.through = !this.through;
      this.show();
    } else if (name === "live" && viewport) this.toggleLive();
    else if (name === "update") await this.update();
    else if (name === "text") this.toggleText();
    else if (name === "help") this.toggleHelp();
    else if (name === "apply") this.applyText(value);
  }

  /** A number of the chosen key; none: as without it. */
  setNumber(name, value) {
    const { [name]: _, ...key } = this.path.keys[this.chosen];
    const [least, most] = LIMITS[name];
    const given = Math.min(Math.max(Number(value), least), most);
    this.change({ keys: this.path.keys.with(this.chosen, value === "" ? key : { ...key, [name]: given }) });
  }

  async update() {
    this.say("Updating the path ...");
    try {
      await this.host.update();
    } catch (error) {
      this.say(error.message, "bad");
    }
  }

  toggleText() {
    const { panel } = this;
    panel.text.hidden = !panel.text.hidden;
    panel.area.value = this.text;
    if (!panel.text.hidden) panel.area.focus();
  }

  toggleHelp() {
    this.panel.help.hidden = !this.panel.help.hidden;
    this.panel.mark("help", !this.panel.help.hidden);
  }

  applyText(text) {
    try {
      state.readPath(text);
    } catch (error) {
      this.say(`The text cannot be read: ${error.message}`, "bad");
      return;
    }
    this.panel.text.hidden = true;
    if (this.host.fixed) this.change({});
    else this.write(text.trim(), true);
  }

  key(event) {
    if (event.target !== this.panel.focus && event.target !== this.panel.slider && event.target.tagName !== "BUTTON") {
      event.stopPropagation(); // typing into a field
      return;
    }
    const action = event.key === "Escape" && !this.panel.help.hidden ? ["help"] : this.actionOf(event);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    this.act(...action);
  }

  actionOf(event) {
    const ctrl = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (ctrl && key === "z") return [event.shiftKey ? "redo" : "undo"];
    if (ctrl && key === "y") return ["redo"];
    if (ctrl) return null;
    if (event.altKey) return { arrowleft: ["earlier"], arrowright: ["later"] }[key] ?? null;
    if (/^[1-9]$/.test(key)) return ["choose", Number(key) - 1];
    const plain = { delete: ["remove"], backspace: ["remove"], " ": ["play"], f: ["frame"], a: ["add"], c: ["through"], u: ["update"], "?": ["help"] };
    Object.assign(plain, { arrowleft: ["scrub", this.at - 1], arrowright: ["scrub", this.at + 1] });
    return plain[key] ?? null;
  }
}
