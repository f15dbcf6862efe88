// The camera path editor on Path Editor. The node works without it: all it does is write the text `keyframes`.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { PathEditor } from "./path_editor/editor.js";
import { LiveView, runNode } from "./path_editor/live.js";
import { isOpen, placeOf } from "./path_editor/place.js";

const NODE = "SceneTok_PathEditor";
const SIZE = [660, 720];
const LEAST_HEIGHT = 430;

function addressOf(file) {
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder, type: file.type });
  return api.apiURL(`/view?${query}`);
}

function hide(widget) {
  widget.hidden = true;
  widget.options.hidden = true;
  widget.computeSize = () => [0, -4]; // takes no row
}

const linked = (node, name) => Boolean(node.inputs?.some((input) => input.name === name && input.link != null));

const remembered = new WeakMap(); // what is shown of every open workflow: places of nodes to scenes

function scenesOf(workflow) {
  if (!remembered.has(workflow)) remembered.set(workflow, new Map());
  return remembered.get(workflow);
}

/** Let the page notice the change, so that it is saved and can be undone: what happens in the editor it does not see. */
function capture() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

const openWorkflow = () => app.extensionManager?.workflow?.activeWorkflow ?? app;

function hostOf(node) {
  const [text, frames] = ["keyframes", "frames"].map((name) => node.widgets.find((widget) => widget.name === name));
  return {
    given: "", // the text of the last run, for one that comes from a link
    get text() {
      return this.fixed ? this.given : (text.value ?? "");
    },
    set text(value) {
      text.value = value;
      text.callback?.(value);
      node.graph?.setDirtyCanvas(true, true);
    },
    get open() {
      return isOpen(app, node);
    },
    changed: capture,
    get frames() {
      return linked(node, "frames") ? null : Number(frames.value);
    },
    get fixed() {
      return linked(node, "keyframes");
    },
    get connected() {
      return { cameras: linked(node, "cameras"), images: linked(node, "images") };
    },
    url: addressOf,
    get kept() {
      const place = placeOf(app, node);
      return scenesOf(openWorkflow()).get(place) ?? app.nodeOutputs?.[place]?.path_editor?.[0];
    },
    update: () => runNode(app, api, node),
  };
}

function addEditor(node) {
  hide(node.widgets.find((widget) => widget.name === "keyframes"));
  const host = hostOf(node);
  const editor = new PathEditor(host);
  editor.element.pathEditor = editor; // for scripts
  editor.live = new LiveView(app, api, node, {
    onPicture: (file) => editor.showDraft(file),
    onStop: () => editor.showLive(),
    onStatus: (message) => (message ? editor.say(message, message.endsWith("...") ? "" : "bad") : editor.showStatus()),
  });
  const widget = node.addDOMWidget("editor", "scenetok_path_editor", editor.element, {
    serialize: false, // not an input of the prompt
    hideOnZoom: false,
    getMinHeight: () => LEAST_HEIGHT,
  });
  widget.serialize = false; // not a value of the workflow
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
  const receive = (output) => {
    const [scene] = output?.path_editor ?? [];
    if (!scene) return;
    host.given = scene.state;
    scenesOf(openWorkflow()).set(placeOf(app, node), scene);
    editor.receive(scene);
  };
  after(node, "onExecuted", receive);
  after(node, "onConfigure", () => editor.open());
  after(node, "onRemoved", () => editor.dispose());
}

function after(node, name, action) {
  const before = node[name];
  node[name] = function (...values) {
    const result = before?.apply(this, values);
    action(...values);
    return result;
  };
}

app.registerExtension({
  name: "scenetok.path_editor",
  nodeCreated(node) {
    if (node.comfyClass === NODE) addEditor(node);
  },
});
