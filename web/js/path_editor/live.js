// What the editor asks of the server, through its ordinary queue: the path anew, and drafts of single cameras.
import { promptId } from "./place.js";

const RENDER = "SceneTok_RenderTrajectory";
const PREVIEW = "PreviewImage";
let count = 0;

const sources = (node) => Object.values(node.inputs).filter((value) => Array.isArray(value) && value.length === 2);

function reaches(prompt, from, to, seen = new Set()) {
  if (from === to) return true;
  if (seen.has(from) || !prompt[from]) return false;
  seen.add(from);
  return sources(prompt[from]).some(([source]) => reaches(prompt, String(source), to, seen));
}

function fault(answer) {
  const details = Object.values(answer.node_errors ?? {}).flatMap((node) => node.errors.map((error) => error.details));
  return details.filter(Boolean).join("; ") || answer.error?.message || "the server refused the prompt";
}

async function promptOf(app, node) {
  const { output } = await app.graphToPrompt();
  const id = promptId(app, output, node);
  if (!id) throw new Error("this node is muted or bypassed");
  return { output, id };
}

async function post(api, prompt, target) {
  const body = { client_id: api.clientId, prompt, partial_execution_targets: [target], extra_data: {} };
  const response = await api.fetchApi("/prompt", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(fault(answer));
  return answer.prompt_id;
}

/** Run the editor's node and what it needs, nothing after it. */
export async function runNode(app, api, node) {
  const { output, id } = await promptOf(app, node);
  return post(api, output, id);
}

/** The graph's prompt with a draft of one camera: `[prompt, target]`. Other nodes stay, so that their results are kept. */
export function draftPrompt(output, editor, text) {
  const render = Object.keys(output).find(
    (id) => output[id].class_type === RENDER && reaches(output, String(output[id].inputs.cameras?.[0]), editor),
  );
  if (!render) throw new Error("the live view needs a Render Trajectory that is fed by this editor");
  const [camera, frame, target] = ["camera", "frame", "picture"].map((part) => `scenetok_live_${part}_${++count}`);
  const { images, ...inputs } = output[editor].inputs;
  const draft = {
    [camera]: { class_type: output[editor].class_type, inputs: { ...inputs, frames: 1, keyframes: text, limit_to_seen: false } },
    [frame]: { class_type: RENDER, inputs: { ...output[render].inputs, cameras: [camera, 0], steps: 1 } },
    [target]: { class_type: PREVIEW, inputs: { images: [frame, 0] } },
  };
  return [{ ...output, ...draft }, target];
}

/** Drafts of the editor's camera, one at a time; the latest wish is fulfilled when the one before is done. */
export class LiveView {
  /** `onPicture(file)`, `onStatus(text)`, `onStop()`: a draft has failed, and with it the live view is off. */
  constructor(app, api, node, { onPicture, onStatus, onStop }) {
    Object.assign(this, { app, api, node, onPicture, onStatus, onStop });
    this.on = false;
    this.running = null; // {target, id}
    this.wish = null;
    this.early = new Map(); // how prompts ended that the server had not named yet
    this.listeners = {
      executed: ({ detail }) => this.show(detail),
      execution_success: ({ detail }) => this.end(detail.prompt_id, ""),
      execution_interrupted: ({ detail }) => this.end(detail.prompt_id, "Live draft: cancelled"),
      execution_error: ({ detail }) => this.end(detail.prompt_id, `Live draft stopped: ${detail.exception_message}`, true),
      reconnected: () => this.running && this.finish("Live draft: the connection was lost"),
    };
    for (const [kind, listener] of Object.entries(this.listeners)) api.addEventListener(kind, listener);
  }

  dispose() {
    this.switch(false);
    for (const [kind, listener] of Object.entries(this.listeners)) this.api.removeEventListener(kind, listener);
  }

  switch(on) {
    this.on = on;
    clearTimeout(this.timer);
    this.wish = null;
  }

  /** The camera has moved; it is drawn once it rests. `text`: the state of a path with this one key. */
  moved(text) {
    if (!this.on) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.wish = text;
      this.next();
    }, 400);
  }

  async next() {
    if (this.running || this.wish === null) return;
    const text = this.wish;
    this.wish = null;
    this.running = { target: null, id: null };
    this.early.clear();
    this.onStatus("Live draft: drawing ...");
    try {
      const { output, id } = await promptOf(this.app, this.node);
      const [prompt, target] = draftPrompt(output, id, text);
      if (!this.on) return this.finish("");
      this.running.target = target;
      this.running.id = await post(this.api, prompt, target);
    } catch (error) {
      this.finish(`Live draft: ${error.message}`);
      return;
    }
    const ended = this.early.get(this.running.id);
    if (ended) this.finish(...ended);
  }

  show({ node, output }) {
    if (this.running && node === this.running.target && output?.images?.length) this.onPicture(output.images[0]);
  }

  end(id, ...how) {
    if (!this.running) return;
    if (this.running.id === null) this.early.set(id, how);
    else if (this.running.id === id) this.finish(...how);
  }

  /** `failed`: the page shows a dialog, and would do so after every move. */
  finish(message, failed = false) {
    this.running = null;
    if (failed) {
      this.switch(false);
      this.onStop();
    }
    this.onStatus(message);
    if (this.on) this.next();
  }
}
