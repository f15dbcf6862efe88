// The 3-D view: input cameras with their pictures, path and keys; looking through the path's camera.
import { Eye } from "./eye.js";
import { Pointer } from "./pointer.js";
import { ground, keyIntrinsics, keyPose, fieldOfView } from "./state.js";
import { join, leave, render } from "./renderer.js";
import { THREE } from "./three.js";
import * as shapes from "./shapes.js";
import { across, add, along, centre, distance, dot, forward, scale } from "./vectors.js";

const KEY = "#ffd166";
const CHOSEN = "#ffffff";
const MARGIN = 26; // pixels around the path's picture
const FEW = 24; // input cameras; the lines of more are fainter
const SHARPEST = 2; // pixels of the screen per pixel of the page

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
    this.eye = new Eye();
    this.pointer = new Pointer(this);
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
    const { clientWidth, clientHeight } = this.element;
    this.unframed = !clientWidth || !clientHeight; // not shown yet
    this.eye.frame(this.scene, this.keys ?? [], this.depth, this.unframed ? 1 : clientWidth / clientHeight);
    this.changed();
  }

  /** Stand where a key stands. */
  standAt(pose) {
    this.eye.standAt(pose, this.scene);
    this.changed();
  }

  get position() {
    return this.eye.position;
  }

  get target() {
    return this.eye.target;
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
    this.camera.matrix.copy(shapes.matrixOf(this.eye.pose));
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
}
