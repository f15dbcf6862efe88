// The pointer in the 3-D view: orbiting, moving along, picking and dragging keys.
import { steep } from "./eye.js";
import * as shapes from "./shapes.js";
import { THREE } from "./three.js";
import { across, add, centre, dot, normalise, scale, subtract } from "./vectors.js";

const PICK_PIXELS = 13;
const TURN = 0.008; // radians per pixel

export class Pointer {
  /** `view`: the `Viewport` whose canvas it is over, whose eye and keys it moves. */
  constructor(view) {
    this.view = view;
    this.listen();
  }

  /** The pointer in [-1, 1], however the graph is zoomed. */
  pointer(event) {
    const box = this.view.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2 - 1, 1 - ((event.clientY - box.top) / box.height) * 2];
  }

  ray(event) {
    const caster = new THREE.Raycaster();
    caster.setFromCamera(new THREE.Vector2(...this.pointer(event)), this.view.camera);
    return caster;
  }

  /** What is under the pointer: "handle", a key's index, or null. */
  pick(event) {
    const [x, y] = this.pointer(event);
    const { clientWidth: width, clientHeight: height } = this.view.element;
    const away = (point) => {
      const [px, py, inside] = this.view.project(point);
      return inside ? Math.hypot(((x + 1) / 2) * width - px, ((1 - y) / 2) * height - py) : Infinity;
    };
    if (this.view.handle && away(this.view.handle) < PICK_PIXELS) return "handle";
    const all = (this.view.keys ?? []).map((pose) => away(centre(pose)));
    const nearest = Math.min(...all);
    return nearest < PICK_PIXELS ? all.indexOf(nearest) : null;
  }

  pickView(event) {
    const hits = this.ray(event).intersectObjects(this.view.pictures);
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
    this.view.canvas.addEventListener("contextmenu", stop);
    this.view.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.view.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.view.canvas.addEventListener("dblclick", (event) => {
      stop(event);
      const input = this.view.scene && !this.view.through && this.pick(event) === null ? this.pickView(event) : null;
      if (input !== null) this.view.on.view(input);
    });
    this.view.canvas.addEventListener(
      "wheel",
      (event) => {
        stop(event);
        if (!this.view.scene) return;
        if (this.view.through) return this.view.on.scrub(Math.sign(event.deltaY));
        this.view.eye.distance *= Math.exp(Math.min(Math.max(event.deltaY, -100), 100) * 0.0015);
        this.view.changed();
      },
      { passive: false },
    );
  }

  hover(event) {
    if (!this.view.scene || this.view.through || event.buttons) return;
    const over = this.pick(event);
    this.view.canvas.style.cursor = over !== null ? "grab" : this.pickView(event) !== null ? "pointer" : "default";
  }

  press(event) {
    event.stopPropagation();
    if (!this.view.scene || this.view.through) return;
    event.preventDefault();
    const over = event.button === 0 && !event.ctrlKey ? this.pick(event) : null;
    let drag = event.button === 0 && !event.ctrlKey ? this.orbiting(event) : this.panning(event);
    if (over === "handle") drag = this.dragging(this.view.chosen, this.view.handle, true);
    else if (over !== null) {
      this.view.on.chosen(over);
      drag = this.dragging(over, centre(this.view.keys[over]), false);
    }
    this.view.canvas.setPointerCapture(event.pointerId);
    const move = (moved) => {
      moved.stopPropagation();
      drag(moved);
    };
    const end = (ended) => {
      ended.stopPropagation();
      this.view.canvas.removeEventListener("pointermove", move);
      this.view.canvas.removeEventListener("pointerup", end);
      this.view.canvas.removeEventListener("pointercancel", end);
      if (over !== null) this.view.on.dropped();
    };
    this.view.canvas.addEventListener("pointermove", move);
    this.view.canvas.addEventListener("pointerup", end);
    this.view.canvas.addEventListener("pointercancel", end);
  }

  /** Pixels since the last call, in the viewport's own. */
  steps(event) {
    let [x, y] = this.pointer(event);
    return (moved) => {
      const [nx, ny] = this.pointer(moved);
      const step = [((nx - x) / 2) * this.view.element.clientWidth, ((y - ny) / 2) * this.view.element.clientHeight];
      [x, y] = [nx, ny];
      return step;
    };
  }

  orbiting(event) {
    const step = this.steps(event);
    return (moved) => {
      const [dx, dy] = step(moved);
      this.view.eye.turn -= dx * TURN;
      this.view.eye.rise = steep(this.view.eye.rise + dy * TURN);
      this.view.changed();
    };
  }

  panning(event) {
    const step = this.steps(event);
    return (moved) => {
      const [dx, dy] = step(moved);
      const unit = (2 * this.view.eye.distance * Math.tan((this.view.camera.fov * Math.PI) / 360)) / this.view.element.clientHeight;
      const rows = this.view.camera.matrix.elements;
      const [right, up] = [rows.slice(0, 3), rows.slice(4, 7)];
      this.view.eye.target = add(this.view.eye.target, add(scale(right, -dx * unit), scale(up, dy * unit)));
      this.view.changed();
    };
  }

  /** Drag a key over the ground, with Shift up and down; or the handle of its direction across the view. */
  dragging(index, start, isHandle) {
    const up = this.view.scene.up;
    let point = start;
    let last = null;
    let mode = null;
    return (event) => {
      const now = isHandle ? "across" : event.shiftKey ? "up" : "ground";
      const towards = normalise(subtract(this.view.eye.position, point));
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
      this.view.on.dragged(index, point, isHandle);
    };
  }
}
