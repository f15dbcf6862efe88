// The look of the editor, in the colours of ComfyUI's own themes.
export const STYLE = `
.st-editor { position: relative; box-sizing: border-box; display: flex; flex-direction: column; gap: 6px; width: 100%;
  height: 100%; min-height: 420px; padding: 6px; border-radius: 8px; overflow: hidden; outline: none; color: #d8dbe2;
  background: #1f2228; border: 1px solid #343944; font: 12px/1.35 Inter, Arial, sans-serif; user-select: none; }
.st-editor:focus-within { border-color: #5b7fb5; }
.st-editor .st-row { display: flex; flex-wrap: wrap; align-items: center; gap: 4px; flex: none; }
.st-editor .st-group { display: flex; gap: 2px; align-items: center; }
.st-editor .st-space { flex: 1; }
.st-editor button, .st-editor select, .st-editor input[type="number"] { box-sizing: border-box; height: 24px; margin: 0;
  padding: 0 8px; color: #d8dbe2; background: #2d323b; border: 1px solid #3c424e; border-radius: 5px; font: inherit; }
.st-editor button { cursor: pointer; white-space: nowrap; }
.st-editor button:hover:not(:disabled) { background: #3a4150; }
.st-editor button:disabled { opacity: 0.4; cursor: default; }
.st-editor button.st-on, .st-editor button.st-on:hover:not(:disabled) { color: #10131a; background: #4cc9f0; border-color: #4cc9f0; }
.st-editor button.st-play { width: 34px; padding: 0; }
.st-editor button.st-play svg { display: block; margin: auto; fill: currentColor; }
.st-editor button.st-stale, .st-editor button.st-stale:hover:not(:disabled) { color: #1b1606; background: #ffd166; border-color: #ffd166; }
.st-editor input[type="number"] { width: 50px; padding: 0 4px; user-select: text; }
.st-editor select { padding: 0 4px; }
.st-editor label { display: flex; align-items: center; gap: 4px; margin-left: 4px; color: #a4abb8; }
.st-editor .st-view { position: relative; flex: 1 1 0; min-height: 160px; overflow: hidden; border-radius: 6px;
  background: #17191e; }
.st-editor .st-view canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; }
.st-editor .st-label { position: absolute; top: 0; left: 0; padding: 0 4px; border-radius: 4px; pointer-events: none;
  color: #1b1606; background: #ffd166; font-size: 11px; font-weight: 600; line-height: 15px; }
.st-editor .st-label.st-chosen { background: #fff; }
.st-editor .st-frame { position: absolute; box-shadow: 0 0 0 4000px rgba(10, 11, 14, 0.72); outline: 1px solid #d8dbe2;
  pointer-events: none; }
.st-editor .st-empty { position: absolute; inset: 0; display: flex; flex-direction: column; align-items: center;
  justify-content: center; gap: 10px; padding: 20px; text-align: center; color: #a4abb8; font-size: 13px; }
.st-editor .st-live { position: absolute; top: 8px; right: 8px; max-width: 38%; border-radius: 5px; overflow: hidden;
  border: 1px solid #4cc9f0; background: #17191e; pointer-events: none; }
.st-editor .st-live img { display: block; width: 168px; max-width: 100%; min-height: 30px; }
.st-editor .st-live span { position: absolute; left: 4px; bottom: 3px; padding: 0 4px; border-radius: 3px; font-size: 10px;
  background: rgba(10, 11, 14, 0.7); }
.st-editor .st-hint { position: absolute; left: 0; bottom: 0; right: 0; padding: 4px 8px; pointer-events: none; color: #a4abb8;
  font-size: 11px; background: rgba(23, 25, 30, 0.8); }
.st-editor .st-help { position: absolute; z-index: 1; inset: 0; display: grid; grid-template-columns: auto 1fr; gap: 3px 12px;
  align-content: start; padding: 12px 16px; overflow-y: auto; background: rgba(23, 25, 30, 0.96); }
.st-editor .st-help b { grid-column: 1 / -1; margin-top: 6px; color: #ffd166; }
.st-editor .st-help b:first-child { margin-top: 0; }
.st-editor .st-help kbd { color: #fff; font: inherit; }
.st-editor .st-help span { color: #a4abb8; }
.st-editor .st-seen { position: absolute; left: 0; right: 0; bottom: 1px; height: 3px; border-radius: 2px; pointer-events: none; }
.st-editor .st-time { position: relative; flex: 1; min-width: 80px; height: 24px; display: flex; align-items: center; }
.st-editor input[type="range"] { width: 100%; height: 6px; margin: 0; border-radius: 3px; appearance: none; outline: none; }
.st-editor input[type="range"]::-webkit-slider-thumb { appearance: none; width: 10px; height: 18px; border-radius: 3px;
  background: #fff; border: 1px solid #17191e; cursor: ew-resize; }
.st-editor input[type="range"]::-moz-range-thumb { width: 8px; height: 16px; border-radius: 3px; background: #fff;
  border: 1px solid #17191e; cursor: ew-resize; }
.st-editor .st-number { min-width: 62px; text-align: right; font-variant-numeric: tabular-nums; }
.st-editor .st-keys { display: flex; flex: none; align-items: center; gap: 3px; min-height: 24px; overflow-x: auto; scrollbar-width: thin; }
.st-editor .st-keys button { flex: none; min-width: 28px; padding: 0 6px; border-color: #6d5c2c; color: #ffd166;
  background: #2c2920; touch-action: none; }
.st-editor .st-keys button.st-chosen { color: #10131a; background: #fff; border-color: #fff; }
.st-editor .st-none { color: #8b93a3; }
.st-editor .st-status { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: #a4abb8; }
.st-editor .st-status.st-bad { color: #ff8f8f; }
.st-editor .st-status.st-warn { color: #ffd166; }
.st-editor .st-text { position: absolute; z-index: 2; inset: 8px; display: flex; flex-direction: column; gap: 6px; padding: 8px;
  border-radius: 6px; background: #17191e; border: 1px solid #3c424e; }
.st-editor .st-text textarea { flex: 1; resize: none; padding: 6px; color: #d8dbe2; background: #101216; border: 1px solid #3c424e;
  border-radius: 4px; font: 11px/1.4 monospace; user-select: text; }
.st-editor .st-focus { position: absolute; width: 1px; height: 1px; padding: 0; border: 0; opacity: 0; pointer-events: none; }
.st-editor [hidden] { display: none !important; }
`;
