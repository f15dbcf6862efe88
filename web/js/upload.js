// Buttons that upload a capture or a scene into the input folder, and files dropped onto these nodes. The nodes work
// without it.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const UPLOADS = {
  SceneTok_LoadViews: { widget: "capture", label: "upload capture (.zip)", suffix: ".zip", subfolder: "" },
  SceneTok_LoadTokens: {
    widget: "scene",
    label: "upload scene (.safetensors)",
    suffix: ".safetensors",
    subfolder: "scenes",
  },
};

function complain(detail) {
  app.extensionManager.toast.add({ severity: "error", summary: "SceneTok", detail });
}

async function upload(file, widget, subfolder) {
  const body = new FormData();
  body.append("image", file); // the route takes any file under this name
  if (subfolder) body.append("subfolder", subfolder);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (answer.status !== 200) {
    complain(`Upload of ${file.name} failed: ${answer.status} ${answer.statusText}`);
    return;
  }
  const stored = await answer.json();
  const path = stored.subfolder ? `${stored.subfolder}/${stored.name}` : stored.name;
  if (!widget.options.values.includes(path)) {
    widget.options.values.push(path);
  }
  widget.value = path;
  widget.callback?.(path);
}

function choose(widget, { suffix, subfolder }) {
  const picker = document.createElement("input");
  picker.type = "file";
  picker.accept = suffix;
  picker.onchange = () => picker.files.length && upload(picker.files[0], widget, subfolder);
  picker.click();
}

/** The page looks for a chosen picture in the input folder, where those that come with the pack are not. */
function hideExamples(node) {
  const widget = node.widgets.find(({ name }) => name === "image");
  Object.defineProperty(node, "hideOutputImages", { get: () => String(widget.value).startsWith("example: ") });
}

function acceptDrops(node, widget, { suffix, subfolder }) {
  node.onDragOver = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
  node.onDragDrop = (event) => {
    const file = [...event.dataTransfer.files].find(({ name }) => name.toLowerCase().endsWith(suffix));
    if (!file) return false; // the page may know what to do with it
    upload(file, widget, subfolder);
    return true;
  };
}

app.registerExtension({
  name: "scenetok.upload",
  nodeCreated(node) {
    if (node.comfyClass === "SceneTok_LoadPhotograph") hideExamples(node);
    const kind = UPLOADS[node.comfyClass];
    const widget = kind && node.widgets?.find(({ name }) => name === kind.widget);
    if (!widget) return;
    const button = node.addWidget("button", kind.label, null, () => choose(widget, kind), { serialize: false });
    button.serialize = false; // not a value of the workflow
    acceptDrops(node, widget, kind);
  },
});
