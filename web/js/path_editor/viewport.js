// The 3-D view: input cameras with their pictures, path and keys; orbiting, dragging, looking through the path's camera.
import { behind, ground, keyIntrinsics, keyPose, fieldOfView } from "./state.js";
import { join, leave, render } from "./renderer.js";
import { THREE } from "./three.js";
import * as shapes from "./shapes.js";
import { across, add, along, centre, column, cross, distance, dot, forward, lookAt, normalise, scale, subtract } from "./vectors.js";

const KEY = "#ffd166";
const CHOSEN = "#ffffff";
const PICK_PIXELS = 13;
const MARGIN = 26; // pixels around the path's picture
const FILLED = 1.15; // of the distance from which everything just fits
const FEW = 24; // input cameras; the lines of more are fainter
const TURN = 0.008; // radians per pixel
const SHARPEST = 2; // pixels of the screen per pixel of the page
const STEEPEST = 1.5; // radians above or below the ground

function spacing(points, reach) {
  const nearest = points.map((a, i) => Math.min(...points.filter((_, j) => j !== i).map((b) => distance(a, b))));
  const middle = nearest.sort((a, b) => a - b)[nearest.length >> 1];
  return Math.min(Math.max(0.9 * (Number.isFinite(middle) ? middle : reach), 0.05 * reach), 0.14 * reach);
}

export class Viewport {
  /** `on`: what happens: `moved()`, `chosen(index)`, `dragged(index, point, handle)`, `dropped()`, `view(number)`, `scrub(by)`,
   *  `resized()`. */
  constructor(element, on) {
    this.element = element;
    this.on = on;
    this.sharpness = 1;
    this.again = () => this.draw();
    join(this.again);
    this.canvas = document.createElement("canvas");
    this.picture = this.canvas.getContext("2d", { alpha: false });
    element.prepend(this.canvas);
    this.world = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(45, 1, 0.01, 100);
    this.camera.matrixAutoUpdate = false;
    this.layers = {};
    this.textures = [];
    this.pictures = [];
    this.labels = [];
    this.through = null; // pose and K to look through
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(element);
    this.listen();
  }

  dispose() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    shapes.release(this.world);
    this.textures.forEach((texture) => texture.dispose());
    this.labels.forEach((label) => label.remove());
    this.canvas.remove();
    leave(this.again);
  }

  // --- what is shown ---

  layer(name, objects) {
    if (this.layers[name]) {
      shapes.release(this.layers[name]);
      this.world.remove(this.layers[name]);
    }
    this.layers[name] = new THREE.Group();
    objects.forEach((object) => this.layers[name].add(object));
    this.layers[name].visible = this.isShown(name);
    this.world.add(this.layers[name]);
    this.draw();
  }

  /** Through the path's camera one sees the ground and the backdrop; without pictures, where the inputs stand. */
  isShown(name) {
    return !this.through || ["backdrop", "grid"].includes(name) || (!this.textures.length && name === "inputs");
  }

  /** Input cameras; `url(file)` gives the address of a picture. */
  showScene(scene, url) {
    const first = !this.scene;
    this.scene = scene;
    const { c2w, K } = scene.cameras;
    this.depth = spacing(c2w.map(centre), scene.reach);
    this.ground = ground(scene);
    this.textures.forEach((texture) => texture.dispose());
    const byView = new Map(scene.pictures.map((file) => [file.view, this.load(url(file))]));
    this.textures = [...byView.values()];
    this.byView = byView;
    this.pictures = c2w.map((pose, i) => shapes.picture(pose, K[i], this.depth, byView.get(i)));
    this.pictures.forEach((mesh, i) => {
      mesh.userData.view = i;
      mesh.visible = byView.has(i) || !byView.size; // the others can be clicked, too
    });
    const wires = Math.max(0.15, 0.75 * Math.min(1, FEW / c2w.length));
    this.layer("pictures", this.pictures);
    this.layer("inputs", c2w.map((pose, i) => shapes.frustum(pose, K[i], this.depth, "#9aa4b5", wires)));
    this.layer("pivot", [shapes.cross(scene.pivot, 0.04 * scene.reach)]);
    this.layer("grid", [shapes.grid(this.ground, scene.up, 6 * scene.reach)]);
    this.backdrop(null);
    if (first) this.frameAll();
  }

  load(address) {
    const texture = new THREE.TextureLoader().load(address, () => this.draw());
    texture.colorSpace = THREE.SRGBColorSpace;
    return texture;
  }

  /** The path that Python made; `stale`: keys have changed since. */
  showPath(poses, outside, stale) {
    this.layer("path", poses.length ? [shapes.pathLine(poses, outside, stale)] : []);
  }

  /** Keys with numbers, the chosen one with a handle to turn it. */
  showKeys(keys, chosen, { loop, straight }) {
    const scene = this.scene;
    this.keys = keys.map((key) => keyPose(key, scene));
    this.chosen = chosen;
    const points = this.keys.map(centre);
    const objects = this.keys.map((pose, i) =>
      shapes.frustum(pose, keyIntrinsics(keys[i], scene), 0.75 * this.depth, i === chosen ? CHOSEN : KEY),
    );
    const feet = points.map((point) => add(across(point, scene.up), scale(scene.up, dot(this.ground, scene.up))));
    if (points.length) {
      objects.push(shapes.segments(points.map((point, i) => [point, feet[i]]), KEY, 0.25));
      objects.push(shapes.dots(points, points.map((_, i) => (i === chosen ? CHOSEN : KEY)), 11, true));
    }
    if (straight && points.length > 1) {
      objects.push(shapes.dashes(loop ? [...points, points[0]] : points, 0.03 * scene.reach));
    }
    this.handle = this.keys[chosen] ? along(points[chosen], forward(this.keys[chosen]), 0.3 * scene.reach) : null;
    if (this.handle) {
      objects.push(shapes.segments([[points[chosen], this.handle]], CHOSEN, 0.8));
      objects.push(shapes.dots([this.handle], ["#4cc9f0"], 13, true));
    }
    this.layer("keys", objects);
    this.label(keys.length);
  }

  label(count) {
    this.labels.splice(count).forEach((label) => label.remove());
    while (this.labels.length < count) {
      const label = document.createElement("div");
      label.className = "st-label";
      label.textContent = this.labels.length + 1;
      this.element.append(label);
      this.labels.push(label);
    }
    this.labels.forEach((label, i) => label.classList.toggle("st-chosen", i === this.chosen));
  }

  /** Where the path's camera is now; `share`: its place on the path. */
  showCamera(pose, K, share) {
    const colour = `rgb(${shapes.timeColour(share).join(",")})`;
    this.layer("camera", pose ? [shapes.frustum(pose, K, 1.5 * this.depth, colour)] : []);
  }

  /** Look through a camera with the nearest input picture behind; null: back to the editor's own view. */
  lookThrough(pose, K) {
    this.through = pose ? { pose, K } : null;
    for (const [name, layer] of Object.entries(this.layers)) layer.visible = this.isShown(name);
    this.backdrop(pose);
    this.draw();
  }

  /** The picture of the input that sees most alike, laid into the scene as far away as what the inputs look at. */
  backdrop(pose) {
    const { c2w, K } = this.scene.cameras;
    const shown = [...this.byView.keys()];
    const apart = (view) =>
      (distance(centre(c2w[view]), centre(pose)) / this.scene.reach) ** 2 + 2 * (1 - dot(forward(c2w[view]), forward(pose)));
    const nearest = pose && shown.length ? shown.reduce((a, b) => (apart(b) < apart(a) ? b : a)) : null;
    if (nearest === this.behind && this.layers.backdrop) return;
    this.behind = nearest;
    const depth = nearest === null ? 0 : Math.max(distance(centre(c2w[nearest]), this.scene.pivot), 0.05 * this.scene.reach);
    this.layer("backdrop", nearest === null ? [] : [shapes.picture(c2w[nearest], K[nearest], depth, this.byView.get(nearest))]);
  }

  // --- the editor's own camera ---

  /** Show all cameras and keys; the direction of the view stays. */
  frameAll() {
    const { scene } = this;
    this.axes = [behind(scene), null];
    this.axes[1] = cross(scene.up, this.axes[0]);
    const size = this.depth;
    const points = [...scene.cameras.c2w, ...(this.keys ?? [])].flatMap((pose) =>
      [-size, size].flatMap((step) => [0, 1, 2].map((axis) => along(centre(pose), column(pose, axis), step))),
    );
    points.push(scene.pivot);
    const ends = [Math.min, Math.max].map((end) => [0, 1, 2].map((axis) => end(...points.map((point) => point[axis]))));
    this.eye = { turn: 0.5, rise: 0.6, distance: 1, ...this.eye, target: scale(add(...ends), 0.5) };
    const pose = this.eyePose;
    const tall = Math.tan((fieldOfView(scene.cameras.K[scene.middle]) * Math.PI) / 360);
    const { clientWidth, clientHeight } = this.element;
    this.unframed = !clientWidth || !clientHeight; // not shown yet
    const wide = this.unframed ? tall : (tall * clientWidth) / clientHeight;
    const needed = points.map((point) => {
      const [x, y, z] = [0, 1, 2].map((axis) => dot(subtract(point, this.eye.target), column(pose, axis)));
      return Math.max(Math.abs(x) / wide, Math.abs(y) / tall) - z;
    });
    this.eye.distance = FILLED * Math.max(...needed);
    this.changed();
  }

  /** Stand where a key stands. */
  standAt(pose) {
    const target = along(centre(pose), forward(pose), Math.max(0.2 * this.scene.reach, this.eye.distance / 2));
    const away = subtract(centre(pose), target);
    const rise = Math.asin(dot(away, this.scene.up) / distance(away, [0, 0, 0]));
    const turn = Math.atan2(dot(away, this.axes[1]), dot(away, this.axes[0]));
    this.eye = { target, distance: distance(away, [0, 0, 0]), turn, rise: Math.min(Math.max(rise, -STEEPEST), STEEPEST) };
    this.changed();
  }

  get position() {
    const { target, distance: away, turn, rise } = this.eye;
    const level = add(scale(this.axes[0], Math.cos(turn)), scale(this.axes[1], Math.sin(turn)));
    return add(target, scale(add(scale(level, Math.cos(rise)), scale(this.scene.up, Math.sin(rise))), away));
  }

  get target() {
    return this.eye.target;
  }

  get eyePose() {
    return lookAt(this.position, this.target, this.scene.up, this.axes[1]);
  }

  changed() {
    this.draw();
    this.on.moved();
  }

  // --- drawing ---

  resize() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    this.sharpness = Math.min(window.devicePixelRatio || 1, SHARPEST);
    this.canvas.width = Math.round(clientWidth * this.sharpness);
    this.canvas.height = Math.round(clientHeight * this.sharpness);
    if (this.unframed) this.frameAll();
    this.draw();
    if (this.through) this.on.resized();
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.render();
    });
  }

  /** The rectangle [left, top, width, height] that the path's picture fills, in pixels. */
  pictureFrame(aspect) {
    const { clientWidth: width, clientHeight: height } = this.element;
    const tall = Math.min(height - 2 * MARGIN, (width - 2 * MARGIN) / aspect);
    return [(width - tall * aspect) / 2, (height - tall) / 2, tall * aspect, tall];
  }

  render() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!this.scene || !width || !height) return;
    if (this.through) this.aimThrough(width, height);
    else this.aimEye(width / height);
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
    this.camera.matrixWorld.copy(this.camera.matrix);
    this.camera.matrixWorldInverse.copy(this.camera.matrix).invert();
    render(this.picture, width, height, this.sharpness, this.world, this.camera);
    this.labels.forEach((label, i) => {
      const [x, y, inside] = this.project(centre(this.keys[i]));
      label.style.display = inside && !this.through ? "" : "none";
      label.style.transform = `translate(${x + 8}px, ${y - 20}px)`;
    });
  }

  aimEye(aspect) {
    this.camera.matrix.copy(shapes.matrixOf(this.eyePose));
    this.camera.fov = fieldOfView(this.scene.cameras.K[this.scene.middle]);
    this.camera.aspect = aspect;
    this.camera.near = this.eye.distance / 200;
    this.camera.far = this.eye.distance + 20 * this.scene.reach;
    this.camera.updateProjectionMatrix();
  }

  aimThrough(width, height) {
    const { pose, K } = this.through;
    const [left, top, wide, tall] = this.pictureFrame(this.aspect(K));
    const near = 0.01 * this.scene.reach;
    const x = (pixel) => (((pixel - left) / wide - K[0][2]) / K[0][0]) * near;
    const y = (pixel) => (-((pixel - top) / tall - K[1][2]) / K[1][1]) * near;
    this.camera.matrix.copy(shapes.matrixOf(pose));
    this.camera.projectionMatrix.makePerspective(x(0), x(width), y(0), y(height), near, 100 * this.scene.reach);
  }

  /** Width by height of the path's pictures. */
  aspect(K) {
    return this.scene.size ? this.scene.size[1] / this.scene.size[0] : K[1][1] / K[0][0];
  }

  /** A point in pixels of the viewport, and whether it is in front. */
  project(point) {
    const at = shapes.vector(point).project(this.camera);
    const { clientWidth, clientHeight } = this.element;
    const inside = Math.abs(at.x) <= 1 && Math.abs(at.y) <= 1 && at.z < 1;
    return [((at.x + 1) / 2) * clientWidth, ((1 - at.y) / 2) * clientHeight, inside];
  }

  // --- the pointer ---

  /** The pointer in [-1, 1], however the graph is zoomed. */
  pointer(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2 - 1, 1 - ((event.clientY - box.top) / box.height) * 2];
  }

  ray(event) {
    const caster = new THREE.Raycaster();
    caster.setFromCamera(new THREE.Vector2(...this.pointer(event)), this.camera);
    return caster;
  }

  /** What is under the pointer: "handle", a key's index, or null. */
  pick(event) {
    const [x, y] = this.pointer(event);
    const { clientWidth: width, clientHeight: height } = this.element;
    const away = (point) => {
      const [px, py, inside] = this.project(point);
      return inside ? Math.hypot(((x + 1) / 2) * width - px, ((1 - y) / 2) * height - py) : Infinity;
    };
    if (this.handle && away(this.handle) < PICK_PIXELS) return "handle";
    const all = (this.keys ?? []).map((pose) => away(centre(pose)));
    const nearest = Math.min(...all);
    return nearest < PICK_PIXELS ? all.indexOf(nearest) : null;
  }

  pickView(event) {
    const hits = this.ray(event).intersectObjects(this.pictures);
    return hits.length ? hits[0].object.userData.view : null;
  }

  /** Where the pointer's ray meets the plane through `point`, or null. */
  onPlane(event, point, normal) {
    const plane = new THREE.Plane().setFromNormalAndCoplanarPoint(shapes.vector(normal), shapes.vector(point));
    return this.ray(event).ray.intersectPlane(plane, new THREE.Vector3())?.toArray() ?? null;
  }

  listen() {
    const stop = (event) => {
      event.preventDefault();
      event.stopPropagation();
    };
    this.canvas.addEventListener("contextmenu", stop);
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("dblclick", (event) => {
      stop(event);
      const view = this.scene && !this.through && this.pick(event) === null ? this.pickView(event) : null;
      if (view !== null) this.on.view(view);
    });
    this.canvas.addEventListener(
      "wheel",
      (event) => {
        stop(event);
        if (!this.scene) return;
        if (this.through) return this.on.scrub(Math.sign(event.deltaY));
        this.eye.distance *= Math.exp(Math.min(Math.max(event.deltaY, -100), 100) * 0.0015);
        this.changed();
      },
      { passive: false },
    );
  }

  hover(event) {
    if (!this.scene || this.through || event.buttons) return;
    const over = this.pick(event);
    this.canvas.style.cursor = over !== null ? "grab" : this.pickView(event) !== null ? "pointer" : "default";
  }

  press(event) {
    event.stopPropagation();
    if (!this.scene || this.through) return;
    event.preventDefault();
    const over = event.button === 0 && !event.ctrlKey ? this.pick(event) : null;
    let drag = event.button === 0 && !event.ctrlKey ? this.orbiting(event) : this.panning(event);
    if (over === "handle") drag = this.dragging(this.chosen, this.handle, true);
    else if (over !== null) {
      this.on.chosen(over);
      drag = this.dragging(over, centre(this.keys[over]), false);
    }
    this.canvas.setPointerCapture(event.pointerId);
    const move = (moved) => {
      moved.stopPropagation();
      drag(moved);
    };
    const end = (ended) => {
      ended.stopPropagation();
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.removeEventListener("pointerup", end);
      this.canvas.removeEventListener("pointercancel", end);
      if (over !== null) this.on.dropped();
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", end);
    this.canvas.addEventListener("pointercancel", end);
  }

  /** Pixels since the last call, in the viewport's own. */
  steps(event) {
    let [x, y] = this.pointer(event);
    return (moved) => {
      const [nx, ny] = this.pointer(moved);
      const step = [((nx - x) / 2) * this.element.clientWidth, ((y - ny) / 2) * this.element.clientHeight];
      [x, y] = [nx, ny];
      return step;
    };
  }

  orbiting(event) {
    const step = this.steps(event);
    return (moved) => {
      const [dx, dy] = step(moved);
      this.eye.turn -= dx * TURN;
      this.eye.rise = Math.min(Math.max(this.eye.rise + dy * TURN, -STEEPEST), STEEPEST);
      this.changed();
    };
  }

  panning(event) {
    const step = this.steps(event);
    return (moved) => {
      const [dx, dy] = step(moved);
      const unit = (2 * this.eye.distance * Math.tan((this.camera.fov * Math.PI) / 360)) / this.element.clientHeight;
      const rows = this.camera.matrix.elements;
      const [right, up] = [rows.slice(0, 3), rows.slice(4, 7)];
      this.eye.target = add(this.eye.target, add(scale(right, -dx * unit), scale(up, dy * unit)));
      this.changed();
    };
  }

  /** Drag a key over the ground, with Shift up and down; or the handle of its direction across the view. */
  dragging(index, start, isHandle) {
    const up = this.scene.up;
    let point = start;
    let last = null;
    let mode = null;
    return (event) => {
      const now = isHandle ? "across" : event.shiftKey ? "up" : "ground";
      const towards = normalise(subtract(this.position, point));
      const flat = Math.abs(dot(towards, up)) < 0.15; // seen from the side, the ground is a line
      const facing = now === "up" || (now === "ground" && flat) ? normalise(across(towards, up)) : towards;
      const hit = this.onPlane(event, point, now === "ground" && !flat ? up : facing);
      if (!hit) return;
      if (mode !== now) [mode, last] = [now, hit];
      let step = subtract(hit, last);
      if (now === "up") step = scale(up, dot(step, up));
      if (now === "ground") step = across(step, up);
      point = add(point, step);
      last = add(last, step);
      this.on.dragged(index, point, isHandle);
    };
  }
}
