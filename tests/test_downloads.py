"""Downloads against a server in this process: resumption, changes, damage, full disks, the hub and its cache."""

import hashlib
import os
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from scenetok_core import cli
from scenetok_core.cli import download as command
from scenetok_core.weights import downloads
from scenetok_core.weights.downloads import KNOWN_FILES, KnownFile, address_of, download, known_file, published_size
from tests.file_server import Server

ROOT = Path(__file__).resolve().parents[1]
NAME, REPO = "weights.pt", "someone/weights"
CONTENT = bytes(range(256)) * 4096  # 1 MiB: several blocks
OTHER = CONTENT[::-1]
HALF = len(CONTENT) // 2
HASH = hashlib.sha256(CONTENT).hexdigest()
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(CONTENT) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def file(server):
    return KnownFile(NAME, "model", "MIT", url=f"{server.url}/s/token/download")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub file, and the hub's cache, which is empty."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return KnownFile(NAME, "autoencoder", "MIT", repo=REPO), cache


def fetch(file, folder, **options):
    return download(file, folder, **{"pause": 0.0, "timeout": 5.0, **options})


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class CancelledError(Exception):
    pass


def cancel_at(limit):
    def progress(done, total):
        if done >= limit:
            raise CancelledError

    return progress


def interrupt(file, folder):
    """Cancel a download halfway; the part that stays."""
    with pytest.raises(CancelledError):
        fetch(file, folder, progress=cancel_at(HALF))
    (part,) = folder.iterdir()
    return part


def refusal(file, folder, **options):
    with pytest.raises(ValueError, match="cannot download") as refused:
        fetch(file, folder, **options)
    message = str(refused.value)
    assert message.endswith(f"save {address_of(file)} as {folder / NAME}")
    return message


def test_a_file_arrives_whole_with_progress_and_nothing_beside_it(file, tmp_path):
    seen, recorded = [], replace(file, sha256=HASH, size=len(CONTENT))
    path = fetch(recorded, tmp_path / "new", progress=lambda *now: seen.append(now))
    assert path == tmp_path / "new" / NAME
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "new") == [NAME]
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen) and len(seen) > 3


def test_a_file_that_is_there_is_left_alone(server, file, tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    assert fetch(file, tmp_path).read_bytes() == b"mine"
    assert server.seen == []


@pytest.mark.parametrize("mark", ["etag", "modified"])
def test_a_cancelled_download_leaves_a_hidden_part_and_resumes(server, file, tmp_path, mark):
    if mark == "modified":
        server.etag, server.modified = None, "Mon, 09 Mar 2026 10:00:00 GMT"
    part = interrupt(file, tmp_path)
    held = part.stat().st_size
    assert part.name.startswith(".") and not part.name.endswith((".pt", ".safetensors"))
    assert 0 < held < len(CONTENT)
    seen = []
    assert fetch(file, tmp_path, progress=lambda *now: seen.append(now)).read_bytes() == CONTENT
    assert server.seen[-1][2:] == (f"bytes={held}-", server.etag or server.modified, 206)
    assert seen[0] == (held, len(CONTENT))
    assert names(tmp_path) == [NAME]


def test_dropped_connections_are_continued(server, file, tmp_path):
    server.drops = [HALF, 1000, 0, 0]
    assert fetch(file, tmp_path, attempts=3).read_bytes() == CONTENT
    continued = f"bytes={HALF + 1000}-"
    assert server.gets() == [(None, 200), (f"bytes={HALF}-", 206), *[(continued, 206)] * 3]


def test_attempts_without_progress_end_and_leave_the_part(server, file, tmp_path):
    server.drops = [HALF, 0, 0]
    assert f"ended after {HALF} of {len(CONTENT)} bytes, 2 times in a row" in refusal(file, tmp_path, attempts=2)
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == CONTENT[:HALF]


def test_a_server_that_cannot_continue_and_always_drops_is_given_up(server, file, tmp_path):
    server.ranges, server.drops = False, [HALF] * 9
    assert "2 times in a row" in refusal(file, tmp_path, attempts=2)
    assert server.gets() == [(None, 200), (f"bytes={HALF}-", 200), (f"bytes={HALF}-", 200)]


@pytest.mark.parametrize("honest", [True, False], ids=["If-Range heeded", "If-Range ignored"])
def test_a_changed_file_is_not_glued_onto_an_old_part(server, file, tmp_path, honest):
    interrupt(file, tmp_path)
    server.content, server.etag, server.if_ranges = OTHER, '"two"', honest
    assert fetch(file, tmp_path).read_bytes() == OTHER
    assert names(tmp_path) == [NAME]


def test_a_file_without_marks_continues_within_a_download_only(server, file, tmp_path):
    server.etag, server.drops = None, [HALF]
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert server.gets() == [(None, 200), (f"bytes={HALF}-", 206)]
    (tmp_path / NAME).unlink()
    interrupt(file, tmp_path)
    server.content = OTHER
    assert fetch(file, tmp_path).read_bytes() == OTHER


def test_a_file_without_marks_whose_size_changes_starts_again(server, file, tmp_path):
    def change(done, total):
        if done == HALF:
            server.content = OTHER[:-1]

    server.etag, server.drops = None, [HALF]
    assert fetch(file, tmp_path, progress=change).read_bytes() == OTHER[:-1]


def test_a_server_that_ignores_ranges_sends_all_again(server, file, tmp_path):
    interrupt(file, tmp_path)
    server.ranges = False
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert server.gets()[-1][1] == 200


def test_a_part_that_is_already_whole_is_taken(server, file, tmp_path):
    with pytest.raises(CancelledError):
        fetch(file, tmp_path, progress=cancel_at(len(CONTENT)))
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert server.gets()[-1] == (f"bytes={len(CONTENT)}-", 416)


def test_a_part_that_is_too_long_is_dropped(server, file, tmp_path):
    part = interrupt(file, tmp_path)
    part.write_bytes(CONTENT + b"more")
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_no_size_header(server, file, tmp_path):
    server.lengths, seen = False, []
    assert published_size(file) is None
    assert fetch(file, tmp_path, progress=lambda *now: seen.append(now)).read_bytes() == CONTENT
    assert {total for _, total in seen} == {None} and seen[-1][0] == len(CONTENT)


def test_a_recorded_size_finds_a_short_file_that_has_no_size_header(server, file, tmp_path):
    server.lengths, server.drops = False, [HALF]
    assert fetch(replace(file, size=len(CONTENT)), tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_deletes_the_file(file, tmp_path):
    message = refusal(replace(file, sha256="0" * 64), tmp_path)
    assert f"got SHA-256 {HASH}, expected {'0' * 64}; what came was deleted" in message
    assert names(tmp_path) == []


def test_another_size_than_recorded_is_refused_before_the_first_byte(file, tmp_path):
    message = refusal(replace(file, size=5), tmp_path)
    assert f"the server offers {len(CONTENT)} bytes, expected 5" in message
    assert names(tmp_path) == []


def test_too_little_disk_is_refused_before_the_first_byte(file, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: DiskUsage(10**9, 10**9, len(CONTENT) - 1))
    assert f"{tmp_path} has 0.00 GB free, 0.00 GB are still to come" in refusal(file, tmp_path)
    assert names(tmp_path) == []


def test_only_the_rest_needs_disk(file, tmp_path, monkeypatch):
    rest = len(CONTENT) - interrupt(file, tmp_path).stat().st_size
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: DiskUsage(10**9, 10**9, rest))
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_a_missing_file_is_not_asked_for_again(server, file, tmp_path):
    server.answers = [404] * 9
    assert "the server answers 404 Not Found" in refusal(file, tmp_path)
    assert len(server.seen) == 1


def test_a_busy_server_is_asked_again(server, file, tmp_path):
    server.answers = [503, 429]
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_a_web_page_is_no_file(server, file, tmp_path):
    server.kind = "text/html; charset=utf-8"
    assert "answers with a web page" in refusal(file, tmp_path)
    assert published_size(file) is None


def test_redirections_do_not_leave_the_web(server, file, tmp_path):
    server.moved = "ftp://127.0.0.1:1/weights.pt"
    refusal(file, tmp_path, attempts=1)
    server.moved = f"file://{__file__}"
    refusal(file, tmp_path, attempts=1)
    assert names(tmp_path) == []


def test_nobody_listens(tmp_path):
    file = KnownFile(NAME, "model", "MIT", url="http://127.0.0.1:1/weights.pt")
    assert "the connection failed" in refusal(file, tmp_path, attempts=1)
    assert published_size(file) is None


def test_a_folder_that_takes_no_files(file, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError):
        fetch(file, tmp_path / "taken")


def test_the_size_is_recorded_or_asked(server, file):
    assert published_size(replace(file, size=7)) == 7
    assert server.seen == []
    assert published_size(file) == len(CONTENT)
    assert [method for method, *_ in server.seen] == ["HEAD"]


def test_hf_endpoint_is_followed_and_importing_does_not_load_the_hub(server, tmp_path):
    code = f"""
import sys
from scenetok_core.weights.downloads import KnownFile, download, published_size
print("huggingface_hub" in sys.modules)
file = KnownFile("{NAME}", "autoencoder", "MIT", repo="{REPO}")
print(published_size(file))
download(file, sys.argv[1])
"""
    places = {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, str(tmp_path / "models")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **places}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"False\n{len(CONTENT)}\n", "")
    assert (tmp_path / "models" / NAME).read_bytes() == CONTENT
    path = f"/{REPO}/resolve/main/{NAME}"
    assert server.seen == [("HEAD", path, None, None, 200), ("GET", path, None, None, 200)]


def cached(cache, content):
    """`content` as the hub's cache holds it."""
    folder = cache / f"models--{REPO.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("0" * 40) / NAME).write_bytes(content)


def test_a_cached_hub_file_needs_no_network(server, hub, tmp_path, monkeypatch):
    file, cache = hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cached(cache, CONTENT)
    assert published_size(file) == len(CONTENT)
    assert fetch(replace(file, sha256=HASH), tmp_path / "models").read_bytes() == CONTENT
    assert names(tmp_path / "models") == [NAME]
    assert server.seen == []


def test_a_damaged_cached_file_is_refused(hub, tmp_path):
    file, cache = hub
    cached(cache, OTHER)
    assert f"expected {HASH}" in refusal(replace(file, sha256=HASH), tmp_path / "models")
    assert names(tmp_path / "models") == []


def test_the_hub_is_not_asked_when_it_is_off_limits(server, hub, tmp_path, monkeypatch):
    file, cache = hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert f"HF_HUB_OFFLINE is set, and the cache {cache} does not hold it" in refusal(file, tmp_path / "models")
    assert published_size(file) is None
    assert server.seen == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "../weights.pt", "url": "https://a/b"}, "file name must be"),
        ({"name": "a\\weights.pt", "url": "https://a/b"}, "file name must be"),
        ({"name": ".hidden", "url": "https://a/b"}, "file name must be"),
        ({"name": NAME}, "needs an address or a hub repository"),
        ({"name": NAME, "url": "https://a/b", "repo": REPO}, "needs an address or a hub repository"),
        ({"name": NAME, "url": "file:///etc/passwd"}, "needs an http or https address"),
    ],
)
def test_files_of_impossible_names_or_places_cannot_be_described(values, message):
    with pytest.raises(ValueError, match=message):
        KnownFile(kind="model", licence="MIT", **values)


def test_the_table_names_each_file_once_and_by_its_stem():
    assert len({file.path for file in KNOWN_FILES}) == len(KNOWN_FILES) == 17
    assert len({address_of(file) for file in KNOWN_FILES}) == len(KNOWN_FILES)
    assert all(address_of(file).startswith("https://") and file.licence for file in KNOWN_FILES)
    for file in KNOWN_FILES:
        assert known_file(file.path) is known_file(file.path.removesuffix(Path(file.name).suffix)) is file
    assert known_file("weights") is None


@pytest.fixture
def table(file, monkeypatch):
    """The command's table, with one file on the server."""
    monkeypatch.setattr(command, "KNOWN_FILES", (file,))
    monkeypatch.setattr(command, "known_file", lambda name: file if name in (NAME, "weights") else None)


def test_the_command_says_what_it_will_do_and_does_it(table, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.shutil, "disk_usage", lambda path: DiskUsage(10**10, 0, 5 * 10**9))
    folder = tmp_path / "models" / "scenetok"
    assert cli.main(["download", "weights", "--folder", str(folder)]) == 0
    assert (folder / NAME).read_bytes() == CONTENT
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"{NAME} from {server.url}/s/token/download",
        "size     1.05MB (5.00GB free on this disk)",
        "licence  MIT",
        f"folder   {folder}",
        f"{folder / NAME}: 1.05MB",
    ]
    assert "download: 100%" in printed.err
    assert cli.main(["download", NAME, "--folder", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / NAME}: already there\n"


def test_the_list_says_what_is_there(table, server, tmp_path, capsys):
    assert cli.main(["download", "list", "--folder", str(tmp_path)]) == 0
    line, where = capsys.readouterr().out.splitlines()
    assert line.split() == [NAME, "model", "unknown", "missing", "MIT"]
    assert where == f"folder: {tmp_path}"
    (tmp_path / NAME).write_bytes(b"")
    assert cli.main(["download", "list", "--folder", str(tmp_path)]) == 0
    assert "there" in capsys.readouterr().out.split()
    assert server.seen == []


def test_the_command_fails_in_one_line(table, server, tmp_path, capsys):
    assert cli.main(["download", "teapot"]) == 2
    assert capsys.readouterr().err == f"error: no known file 'teapot'; choose list, or one of {NAME}\n"
    server.answers = [404] * 2
    assert cli.main(["download", NAME, "--folder", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: cannot download {NAME}: the server answers 404 Not Found.")
    (tmp_path / "taken").write_text("")
    assert cli.main(["download", NAME, "--folder", str(tmp_path / "taken")]) == 2
    assert "error: cannot write" in capsys.readouterr().err
