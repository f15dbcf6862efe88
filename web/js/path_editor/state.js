// The editor's text: `scenetok_core.trajectories.read_keyed_path` reads the same. No key is interpolated here.
import { across, add, along, centre, column, forward, length, lookAt, normalise, scale, subtract, turned } from "./vectors.js";

const VERSION = 1;
const MOST_VIEW_KEYS = 12; // of presets that pass through input views
const DIGITS = 5;
export const EASINGS = ["linear", "ease-in", "ease-out", "ease-in-out"];

/** The path of a text: `{keys, loop, easing}`. Throws an Error that says what is wrong. */
export function readPath(text) {
  if (!text.trim()) return { keys: [], loop: false, easing: "linear" };
  const data = JSON.parse(text);
  const path = Array.isArray(data) ? { keys: data } : data;
  if (!Array.isArray(path?.keys)) throw new Error("the text holds no list of keys");
  path.keys.forEach((key, i) => {
    if (!("view" in key || "c2w" in key || "position" in key)) throw new Error(`key ${i} has no view, c2w or position`);
  });
  return { keys: path.keys, loop: path.loop ?? false, easing: path.easing ?? "linear" };
}

/** The text of a path; empty when it only follows the inputs. */
export function writePath({ keys, loop, easing }) {
  if (!keys.length && !loop && easing === "linear") return "";
  const path = { version: VERSION, keys };
  if (loop) path.loop = true;
  if (easing !== "linear") path.easing = easing;
  return JSON.stringify(path);
}

/** Numbers with few digits, in proportion to the scene. */
export function rounded(values, size) {
  const digits = Math.min(15, Math.max(0, DIGITS - Math.floor(Math.log10(size || 1))));
  return values.map((value) => (Array.isArray(value) ? rounded(value, size) : Number(value.toFixed(digits))));
}

/** Where a key stands and looks: a camera-to-world pose. A view that does not exist is the nearest one that does. */
export function keyPose(key, scene) {
  const { c2w } = scene.cameras;
  if ("c2w" in key) return key.c2w;
  if ("view" in key) return c2w[Math.min(Math.max(key.view, 0), c2w.length - 1)];
  return lookAt(key.position, key.look_at, scene.up, column(c2w[scene.middle], 0));
}

/** Intrinsics of a key: 3 x 3, divided by the picture's width and height. */
export function keyIntrinsics(key, scene) {
  const K = scene.cameras.K["view" in key ? Math.min(key.view, scene.cameras.K.length - 1) : scene.middle];
  if (key.fov === undefined) return K;
  const factor = 0.5 / Math.tan((key.fov * Math.PI) / 360) / K[1][1];
  return [[K[0][0] * factor, K[0][1] * factor, K[0][2]], [0, K[1][1] * factor, K[1][2]], K[2]];
}

export const fieldOfView = (K) => (Math.atan(0.5 / K[1][1]) * 360) / Math.PI;

/** What a key may have wherever it stands goes on to its successor. */
function withOptions(key, { fov, speed }) {
  if (fov !== undefined) key.fov = fov;
  if (speed !== undefined) key.speed = speed;
  return key;
}

/** A key at another place: it goes on looking at its point, or in its direction when it has none. */
export function movedKey(key, position, scene) {
  if ("position" in key) return { ...key, position: rounded(position, scene.reach) };
  const pose = keyPose(key, scene).map((row, i) => (i < 3 ? [...row.slice(0, 3), position[i]] : row));
  const c2w = pose.map((row, i) => (i < 3 ? [...rounded(row.slice(0, 3), 1), rounded([row[3]], scene.reach)[0]] : row));
  return withOptions({ c2w }, key);
}

/** A key that looks at a point, upright. */
export function aimedKey(key, target, scene) {
  return withOptions(standingKey(centre(keyPose(key, scene)), target, scene), key);
}

export function standingKey(position, target, scene) {
  return { position: rounded(position, scene.reach), look_at: rounded(target, scene.reach) };
}

function throughViews(scene) {
  const count = scene.cameras.c2w.length;
  const keys = Math.min(count, MOST_VIEW_KEYS);
  return Array.from({ length: keys }, (_, i) => ({ view: Math.round((i * (count - 1)) / Math.max(1, keys - 1)) }));
}

function around(scene, degrees) {
  const from = subtract(centre(scene.cameras.c2w[scene.middle]), scene.pivot);
  return degrees.map((angle) =>
    standingKey(add(scene.pivot, turned(from, scene.up, (angle * Math.PI) / 180)), scene.pivot, scene),
  );
}

function straight(scene) {
  const start = centre(scene.cameras.c2w[scene.middle]);
  const way = subtract(scene.pivot, start);
  const beyond = along(scene.pivot, way, 1);
  return [start, along(start, way, 0.5)].map((position) => standingKey(position, beyond, scene));
}

/** Paths to begin with, by name: functions from the scene to a path. */
export const PRESETS = {
  Follow: (scene) => ({ keys: throughViews(scene), loop: false }),
  Orbit: (scene) => ({ keys: around(scene, Array.from({ length: 12 }, (_, i) => 30 * i)), loop: true }),
  Arc: (scene) => ({ keys: around(scene, [-30, -15, 0, 15, 30]), loop: false }),
  Dolly: (scene) => ({ keys: straight(scene), loop: false }),
  Loop: (scene) => ({ keys: throughViews(scene), loop: true }),
};

/** The ground that keys are dragged over: level through the lowest input camera, somewhat below it. */
export function ground(scene) {
  const centres = scene.cameras.c2w.map(centre);
  const heights = centres.map((point) => point.reduce((sum, value, i) => sum + value * scene.up[i], 0));
  const middle = scale(centres.reduce(add), 1 / centres.length);
  return add(across(middle, scene.up), scale(scene.up, Math.min(...heights) - 0.35 * scene.reach));
}

/** A level direction from which the scene is seen as the input cameras see it. */
export function behind(scene) {
  const pose = scene.cameras.c2w[scene.middle];
  const level = across(scale(forward(pose), -1), scene.up);
  return length(level) > 1e-3 ? normalise(level) : normalise(across(column(pose, 1), scene.up));
}

/** What can be undone. */
export class History {
  constructor(text) {
    this.texts = [text];
    this.at = 0;
  }

  push(text) {
    if (text === this.texts[this.at]) return;
    this.texts = [...this.texts.slice(0, this.at + 1), text].slice(-200);
    this.at = this.texts.length - 1;
  }

  step(by) {
    this.at = Math.min(Math.max(this.at + by, 0), this.texts.length - 1);
    return this.texts[this.at];
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.texts.length - 1;
  }
}
