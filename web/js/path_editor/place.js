// Where a node is: subgraphs may hold it, and the prompt then calls it "12:4", by the ids of what holds it.

const rootOf = (app) => app.rootGraph ?? app.graph;

/** The node of an id of the prompt, or null. */
function nodeAt(app, id) {
  let graph = rootOf(app);
  let node = null;
  for (const part of id.split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part)) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/** The id of a node in a prompt; of a subgraph that is used twice, in its first use. Undefined for one that is not in it. */
export const promptId = (app, prompt, node) =>
  Object.keys(prompt).find((id) => id.split(":").at(-1) === String(node.id) && nodeAt(app, id) === node);

/** Whether the node's graph, which may be a subgraph, belongs to the open workflow: the page does not tell nodes inside. */
export const isOpen = (app, { graph }) =>
  Boolean(graph) && (graph === rootOf(app) || rootOf(app)?.subgraphs?.get(graph.id) === graph);

/** The same text for a node whenever its workflow is opened, and for no other node of it. */
export const placeOf = (app, node) =>
  !node.graph || node.graph === rootOf(app) ? String(node.id) : `${node.graph.id}:${node.id}`;
