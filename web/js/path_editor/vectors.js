// Vectors of three numbers and camera-to-world poses as rows: OpenCV axes, x right, y down, z forward.
export const add = (a, b) => a.map((value, i) => value + b[i]);
export const subtract = (a, b) => a.map((value, i) => value - b[i]);
export const scale = (a, factor) => a.map((value) => value * factor);
export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
export const length = (a) => Math.hypot(...a);
export const distance = (a, b) => length(subtract(a, b));
export const normalise = (a) => scale(a, 1 / (length(a) || 1));
export const along = (from, direction, amount) => add(from, scale(direction, amount));

export function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** The part of `a` that is orthogonal to the unit vector `axis`. */
export const across = (a, axis) => subtract(a, scale(axis, dot(a, axis)));

/** `a` turned about the unit vector `axis`, right-handed, in radians. */
export function turned(a, axis, angle) {
  const level = across(a, axis);
  const along_axis = subtract(a, level);
  return add(along_axis, add(scale(level, Math.cos(angle)), scale(cross(axis, level), Math.sin(angle))));
}

export const column = (pose, index) => [0, 1, 2].map((row) => pose[row][index]);
export const centre = (pose) => column(pose, 3);
export const forward = (pose) => column(pose, 2);

export function poseOf(right, down, ahead, position) {
  return [...[0, 1, 2].map((i) => [right[i], down[i], ahead[i], position[i]]), [0, 0, 0, 1]];
}

/** The pose at `position` that looks at `target`, upright; `spare` is any direction to the right for straight up or down. */
export function lookAt(position, target, up, spare) {
  const ahead = normalise(subtract(target, position));
  let right = cross(ahead, up);
  if (length(right) < 1e-3) right = across(spare, ahead);
  right = normalise(right);
  return poseOf(right, cross(ahead, right), ahead, position);
}
