// One WebGL context draws all editors: a browser gives a page few of them. Each editor shows a copy of its picture.
import { THREE } from "./three.js";

let renderer = null;
const users = new Set(); // functions that draw an editor again

function redraw() {
  users.forEach((draw) => draw());
}

/** Take part in the shared context; throws where there is no WebGL. `draw` is called when a lost context is back. */
export function join(draw) {
  if (!renderer) {
    renderer = new THREE.WebGLRenderer({ antialias: true });
    renderer.setClearColor("#17191e");
    renderer.setScissorTest(true);
    renderer.domElement.addEventListener("webglcontextrestored", redraw);
  }
  users.add(draw);
}

/** The last one to leave frees the context. */
export function leave(draw) {
  users.delete(draw);
  if (users.size) return;
  renderer.dispose();
  renderer.forceContextLoss();
  renderer = null;
}

/** Draw a world into a 2-D context of `width` x `height` pixels of the page, `sharpness` times as many of the screen. */
export function render(context, width, height, sharpness, world, camera) {
  if (renderer.getPixelRatio() !== sharpness) renderer.setPixelRatio(sharpness);
  const size = renderer.getSize(new THREE.Vector2());
  if (size.x < width || size.y < height) renderer.setSize(Math.max(size.x, width), Math.max(size.y, height), false);
  renderer.setViewport(0, 0, width, height);
  renderer.setScissor(0, 0, width, height);
  renderer.render(world, camera);
  const { canvas } = context;
  const source = renderer.domElement;
  context.drawImage(source, 0, source.height - canvas.height, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
}
