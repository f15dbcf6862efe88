// three.js, loaded when the first editor is shown.
export let THREE = null;

let loading = null;

async function load() {
  const revision = window.__THREE__;
  delete window.__THREE__; // it is only there to warn of a second copy, such as the page's own
  THREE = await import("../../vendor/three/three.module.min.mjs");
  delete window.__THREE__;
  if (revision !== undefined) window.__THREE__ = revision;
}

export function loadThree() {
  loading ??= load();
  return loading;
}
