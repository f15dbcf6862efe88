// The editor's own camera: it turns around a target, the scene's up direction upright.
import { behind, fieldOfView } from "./state.js";
import { add, along, centre, column, cross, distance, dot, forward, lookAt, scale, subtract } from "./vectors.js";

const FILLED = 1.15; // of the distance from which everything just fits
const STEEPEST = 1.5; // radians above or below the ground

/** An angle above the ground that is never straight up or down. */
export function steep(angle) {
  return Math.min(Math.max(angle, -STEEPEST), STEEPEST);
}

export class Eye {
  constructor() {
    this.turn = 0.5; // radians around the up direction
    this.rise = 0.6; // radians above the ground
    this.distance = 1; // from the target
  }

  /** Show all cameras and keys, whose frustums are `size` long; the direction stays. `aspect`: width by height. */
  frame(scene, keys, size, aspect) {
    this.up = scene.up;
    this.axes = [behind(scene), null];
    this.axes[1] = cross(scene.up, this.axes[0]);
    const points = [...scene.cameras.c2w, ...keys].flatMap((pose) =>
      [-size, size].flatMap((step) => [0, 1, 2].map((axis) => along(centre(pose), column(pose, axis), step))),
    );
    points.push(scene.pivot);
    const ends = [Math.min, Math.max].map((end) => [0, 1, 2].map((axis) => end(...points.map((point) => point[axis]))));
    this.target = scale(add(...ends), 0.5);
    const pose = this.pose;
    const tall = Math.tan((fieldOfView(scene.cameras.K[scene.middle]) * Math.PI) / 360);
    const needed = points.map((point) => {
      const [x, y, z] = [0, 1, 2].map((axis) => dot(subtract(point, this.target), column(pose, axis)));
      return Math.max(Math.abs(x) / (tall * aspect), Math.abs(y) / tall) - z;
    });
    this.distance = FILLED * Math.max(...needed);
  }

  /** Stand where a camera stands, and turn around what it looks at. */
  standAt(pose, scene) {
    const target = along(centre(pose), forward(pose), Math.max(0.2 * scene.reach, this.distance / 2));
    const away = subtract(centre(pose), target);
    this.target = target;
    this.distance = distance(away, [0, 0, 0]);
    this.rise = steep(Math.asin(dot(away, this.up) / this.distance));
    this.turn = Math.atan2(dot(away, this.axes[1]), dot(away, this.axes[0]));
  }

  get position() {
    const level = add(scale(this.axes[0], Math.cos(this.turn)), scale(this.axes[1], Math.sin(this.turn)));
    return add(this.target, scale(add(scale(level, Math.cos(this.rise)), scale(this.up, Math.sin(this.rise))), this.distance));
  }

  get pose() {
    return lookAt(this.position, this.target, this.up, this.axes[1]);
  }
}
