// What the viewport draws: three.js objects for cameras, paths and keys. Time runs through the same colours as in Path Preview.
import { THREE } from "./three.js";
import { centre } from "./vectors.js";

const TIME = [[64, 200, 255], [150, 130, 255], [255, 96, 168], [255, 178, 64]];
export const OUTSIDE = "#ff4d4d";

/** [r, g, b] of 0 to 255 at a place on the path: 0 = its first frame, 1 = its last. */
export function timeColour(place) {
  const at = Math.min(Math.max(place, 0), 1) * (TIME.length - 1);
  const below = Math.min(Math.floor(at), TIME.length - 2);
  return TIME[below].map((value, i) => Math.round(value + (TIME[below + 1][i] - value) * (at - below)));
}

export const timeGradient = `linear-gradient(90deg, ${TIME.map((colour) => `rgb(${colour})`).join(", ")})`;

export const vector = (values) => new THREE.Vector3(...values);

/** The matrix of an OpenCV camera-to-world pose; three's own cameras look along -z with y up. */
export function matrixOf(pose) {
  return new THREE.Matrix4().set(...pose.flat()).multiply(new THREE.Matrix4().makeScale(1, -1, -1));
}

/** Corners of the picture at a depth, in three's camera axes: top left, top right, bottom right, bottom left. */
export function corners(K, depth) {
  const x = (u) => ((u - K[0][2]) / K[0][0]) * depth;
  const y = (v) => (-(v - K[1][2]) / K[1][1]) * depth;
  return [[0, 0], [1, 0], [1, 1], [0, 1]].map(([u, v]) => [x(u), y(v), -depth]);
}

/** A camera as lines from its centre to the picture, with a tick that points up. */
export function frustum(pose, K, depth, colour, opacity = 1) {
  const [a, b, c, d] = corners(K, depth);
  const apex = [0, 0, 0];
  const tip = [(a[0] + b[0]) / 2, a[1] + 0.25 * (a[1] - d[1]), a[2]];
  const left = a.map((value, i) => value + 0.35 * (b[i] - value));
  const right = b.map((value, i) => value + 0.35 * (a[i] - value));
  const points = [apex, a, apex, b, apex, c, apex, d, a, b, b, c, c, d, d, a, left, tip, tip, right];
  const geometry = new THREE.BufferGeometry().setFromPoints(points.map(vector));
  const material = new THREE.LineBasicMaterial({ color: colour, transparent: opacity < 1, opacity });
  const lines = new THREE.LineSegments(geometry, material);
  lines.applyMatrix4(matrixOf(pose));
  return lines;
}

/** The picture of a camera at a depth; black until the texture is there. */
export function picture(pose, K, depth, texture) {
  const [a, b, c, d] = corners(K, depth);
  const geometry = new THREE.BufferGeometry().setFromPoints([a, b, c, d].map(vector));
  geometry.setAttribute("uv", new THREE.Float32BufferAttribute([0, 1, 1, 1, 1, 0, 0, 0], 2));
  geometry.setIndex([0, 2, 1, 0, 3, 2]);
  const style = texture ? { map: texture } : { color: "#3a3f4a", transparent: true, opacity: 0.35 };
  const material = new THREE.MeshBasicMaterial({ ...style, side: THREE.DoubleSide });
  const mesh = new THREE.Mesh(geometry, material);
  mesh.applyMatrix4(matrixOf(pose));
  return mesh;
}

let disc = null;

function discTexture() {
  if (disc) return disc;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 64;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.arc(32, 32, 29, 0, 2 * Math.PI);
  context.fill();
  disc = new THREE.CanvasTexture(canvas);
  return disc;
}

/** Round dots of a size in pixels, each in its colour ([r, g, b] of 0 to 255, or a CSS colour); `above` all else. */
export function dots(positions, colours, pixels, above = false) {
  const geometry = new THREE.BufferGeometry().setFromPoints(positions.map(vector));
  geometry.setAttribute("color", colourAttribute(colours));
  const material = new THREE.PointsMaterial({
    size: pixels,
    sizeAttenuation: false,
    vertexColors: true,
    map: discTexture(),
    alphaTest: 0.5,
    transparent: true,
    depthTest: !above,
  });
  const points = new THREE.Points(geometry, material);
  points.renderOrder = above ? 1 : 0;
  return points;
}

function colourAttribute(colours) {
  const linear = colours.flatMap((colour) => {
    const css = typeof colour === "string" ? colour : `rgb(${colour.join(",")})`;
    return new THREE.Color(css).toArray();
  });
  return new THREE.Float32BufferAttribute(linear, 3);
}

/** The path that Python made: a line and a dot per frame; red where it leaves what was seen. */
export function pathLine(poses, outside, faded) {
  const group = new THREE.Group();
  const points = poses.map(centre);
  const left = new Set(outside);
  const shares = poses.map((_, i) => i / Math.max(1, poses.length - 1));
  const geometry = new THREE.BufferGeometry().setFromPoints(points.map(vector));
  geometry.setAttribute("color", colourAttribute(shares.map(timeColour)));
  const opacity = faded ? 0.3 : 1;
  const material = new THREE.LineBasicMaterial({ vertexColors: true, transparent: true, opacity, depthTest: false });
  group.add(new THREE.Line(geometry, material));
  if (faded) return group;
  group.add(dots(points, shares.map((share, i) => (left.has(i) ? OUTSIDE : timeColour(share))), 6, true));
  return group;
}

/** Straight pieces from key to key: what is known of a path before Python has made it. */
export function dashes(points, size) {
  const geometry = new THREE.BufferGeometry().setFromPoints(points.map(vector));
  const material = new THREE.LineDashedMaterial({ color: "#ffd166", dashSize: size, gapSize: size });
  return new THREE.Line(geometry, material).computeLineDistances();
}

export function segments(pairs, colour, opacity) {
  const geometry = new THREE.BufferGeometry().setFromPoints(pairs.flat().map(vector));
  return new THREE.LineSegments(geometry, new THREE.LineBasicMaterial({ color: colour, transparent: true, opacity }));
}

export function grid(origin, up, size) {
  const lines = new THREE.GridHelper(size, 24, "#3d4350", "#2a2e37");
  lines.quaternion.setFromUnitVectors(new THREE.Vector3(0, 1, 0), vector(up));
  lines.position.copy(vector(origin));
  return lines;
}

/** The point that the input cameras look at. */
export function cross(point, size) {
  const arms = [0, 1, 2].map((axis) => [-size, size].map((step) => point.map((value, i) => value + (i === axis ? step : 0))));
  return segments(arms, "#ffffff", 0.9);
}

/** Free what the graphics card holds of an object; textures are shared and stay. */
export function release(object) {
  object.traverse((part) => {
    part.geometry?.dispose();
    part.material?.dispose();
  });
}
