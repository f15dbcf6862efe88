// A button on Load Views that uploads a .zip with a capture into the input folder. The node works without it.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

async function upload(file, widget) {
  const body = new FormData();
  body.append("image", file); // the route takes any file under this name
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (answer.status !== 200) {
    app.extensionManager.toast.add({
      severity: "error",
      summary: "SceneTok",
      detail: `Upload of ${file.name} failed: ${answer.status} ${answer.statusText}`,
    });
    return;
  }
  const { name, subfolder } = await answer.json();
  const path = subfolder ? `${subfolder}/${name}` : name;
  if (!widget.options.values.includes(path)) {
    widget.options.values.push(path);
  }
  widget.value = path;
  widget.callback?.(path);
}

function choose(widget) {
  const picker = document.createElement("input");
  picker.type = "file";
  picker.accept = ".zip";
  picker.onchange = () => picker.files.length && upload(picker.files[0], widget);
  picker.click();
}

app.registerExtension({
  name: "scenetok.upload",
  nodeCreated(node) {
    if (node.comfyClass !== "SceneTok_LoadViews") return;
    const capture = node.widgets.find((widget) => widget.name === "capture");
    const button = node.addWidget("button", "upload capture (.zip)", null, () => choose(capture), { serialize: false });
    button.serialize = false; // not a value of the workflow
  },
});
