"""Rules of the repository that no other test would notice: who imports whom, links, names in files, README code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE, NODES, TRAINING = (sorted((ROOT / name).rglob("*.py")) for name in ("scenetok_core", "nodes", "training"))
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = ("venv", "demo", "test", "check", "fix", "golden", "bench")
COMFY = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "server"}
OURS = {"scenetok_core", "nodes", "training", "scripts", "tests"}
RUN_SECONDS = 300
# Paths of one machine, and hosts that only an installer's settings should name.
PRIVATE_PATH = re.compile(r"(?<![\w.$}-])/(work|root)/")
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|npmjs\.org|anaconda\.org|proxy\.golang\.org")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module and its relative level (0: absolute), also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level
            if node.module == "torch.nn":
                yield from ((f"torch.nn.{alias.name}", 0) for alias in node.names)


def absolute(path: Path) -> set[str]:
    """First parts of the modules that a file imports by absolute names."""
    return {module.split(".")[0] for module, level in imports(ast.parse(path.read_text("utf-8"))) if level == 0}


def test_there_is_something_to_check():
    assert len(CORE) > 20 and len(NODES) > 5 and len(TRAINING) > 10


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_stands_alone(path):
    assert absolute(path) & (COMFY | OURS) == set()
    depth = len(path.relative_to(ROOT / "scenetok_core").parts)
    outside = [module for module, level in imports(ast.parse(path.read_text("utf-8"))) if level > depth]
    assert outside == [], "a relative import leads out of scenetok_core"


@pytest.mark.parametrize("path", NODES, ids=name_of)
def test_nodes_import_their_own_pack_by_relative_names_and_do_no_tensor_maths(path):
    """ComfyUI loads the pack under another name: absolute names would load every class a second time."""
    modules = set(imports(ast.parse(path.read_text("utf-8"))))
    assert absolute(path) & OURS == set()
    assert [module for module, _ in modules if module.startswith(("torch.nn", "torchvision", "numpy"))] == []
    beyond = [module for module, level in modules if level > 1 and module.split(".")[0] != "scenetok_core"]
    assert beyond == [], "nodes need the core only"


@pytest.mark.parametrize("path", TRAINING, ids=name_of)
def test_training_needs_no_comfyui(path):
    assert absolute(path) & (COMFY | {"nodes", "tests"}) == set()


def test_the_root_module_imports_nothing_of_comfyui_when_loaded():
    """Otherwise no test could be collected without ComfyUI, and `NODE_CLASS_MAPPINGS` would hide the entry point."""
    tree = ast.parse((ROOT / "__init__.py").read_text("utf-8"))
    loaded = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {module for node in loaded for module, _ in imports(node)} <= {"__future__", "typing"}
    assert "NODE_CLASS_MAPPINGS" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    entry = [node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)]
    assert entry == ["comfy_entrypoint"]


@pytest.mark.parametrize("path", [path for path in CORE if path.parent.name != "cli"], ids=name_of)
def test_the_core_does_not_print(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert not any(isinstance(function, ast.Name) and function.id == "print" for function in calls)


def test_python_in_the_readme_runs_as_written():
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks, "README.md shows no Python"
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, timeout=RUN_SECONDS
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        promised = re.findall(r"^print\(.*\)  # (\[[\d, ]+\])", block, re.MULTILINE)
        printed = re.findall(r"^torch\.Size\((.*)\)$", done.stdout, re.MULTILINE)
        assert printed == promised, "the comments show other shapes than the code prints"


def test_the_makefile_has_the_promised_targets():
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):", text, re.MULTILINE))
    phony = re.search(r"^\.PHONY:(.*)$", text, re.MULTILINE)
    assert set(TARGETS) <= targets
    assert phony and set(TARGETS) <= set(phony[1].split())


def test_the_tests_on_other_systems_install_what_the_makefile_does():
    make, workflow = (ROOT / name for name in ("Makefile", ".github/workflows/tests.yml"))
    for pattern in (r"\btorch==[\d.]+", r"\.\[train,[\w,]+\]", r"not gpu and not weights"):
        wanted, there = (set(re.findall(pattern, path.read_text("utf-8"))) for path in (make, workflow))
        assert wanted == there != set(), pattern


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_to_files(path):
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(\s*<?([^)\s>]+)|(?:src|href)=\"([^\"]+)\"|^\[[^\]]+\]:\s*(\S+)", prose, re.MULTILINE)
    targets = [next(filter(None, link)) for link in links]
    relative = [link.partition("#")[0] for link in targets if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if link and not (path.parent / link).exists()] == []


def test_the_pack_requires_two_packages_that_comfyui_lacks():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    names = [re.split(r"[^\w-]", line.strip())[0] for line in lines if line.strip() and not line.startswith("#")]
    assert sorted(names) == ["diffusers", "huggingface_hub"]


def tracked() -> list[Path]:
    """Files that git knows and that still exist."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout ({error})")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_machine():
    files, faults = tracked(), []
    assert len(files) > 100
    for path in files:
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            if PRIVATE_PATH.search(line) or REGISTRY.search(line):
                faults.append(f"{name_of(path)}:{number}: {line.strip()[:100]}")
    assert faults == []
