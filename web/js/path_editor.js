// The camera path editor on Path Editor. The node works without it: all it does is write the text `keyframes`.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { PathEditor } from "./path_editor/editor.js";
import { LiveView, runNode } from "./path_editor/live.js";

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

const linked = (node, name) => node.inputs?.some((input) => input.widget?.name === name && input.link != null);

function hostOf(node) {
  const [text, frames] = ["keyframes", "frames"].map((name) => node.widgets.find((widget) => widget.name === name));
  return {
    get text() {
      return text.value ?? "";
    },
    set text(value) {
      text.value = value;
      text.callback?.(value);
      node.graph?.setDirtyCanvas(true, true);
    },
    get frames() {
      return Number(frames.value);
    },
    get fixed() {
      return linked(node, "keyframes");
    },
    url: addressOf,
    update: () => runNode(app, api, node),
  };
}

function addEditor(node) {
  hide(node.widgets.find((widget) => widget.name === "keyframes"));
  const editor = new PathEditor(hostOf(node));
  editor.live = new LiveView(app, api, node, {
    onPicture: (file) => editor.showDraft(file),
    onStatus: (message) => (message ? editor.say(message, message.endsWith("...") ? "" : "bad") : editor.showStatus()),
  });
  const widget = node.addDOMWidget("editor", "scenetok_path_editor", editor.element, {
    serialize: false, // not an input of the prompt
    hideOnZoom: false,
    getMinHeight: () => LEAST_HEIGHT,
  });
  widget.serialize = false; // not a value of the workflow
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
  return editor;
}

app.registerExtension({
  name: "scenetok.path_editor",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const editor = addEditor(node);
    const { onExecuted, onRemoved } = node;
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (output?.path_editor?.length) editor.receive(output.path_editor[0]);
    };
    node.onRemoved = function () {
      onRemoved?.apply(this, arguments);
      editor.dispose();
    };
    setTimeout(() => { // of a workflow that was put aside and is shown again
      const kept = app.nodeOutputs?.[node.id]?.path_editor;
      if (kept?.length && !editor.scene) editor.receive(kept[0]);
    });
  },
});
