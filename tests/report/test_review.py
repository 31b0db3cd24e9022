"""The page of a review over real HTTP: who may ask, what is found, what is decided."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gendataagent.agent.by_hand.decisions import read_decisions
from gendataagent.cli import app
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.journal import append_row, read_journal
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate
from gendataagent.core.run_folder import RunFolder
from gendataagent.report.review.candidates import PAGE, Candidates
from gendataagent.report.review.query import Query, RequestError
from gendataagent.report.review.serving import TOKEN_HEADER, ReviewServer, open_review
from tests.agent.test_by_hand import Asked, asked, model

from .fixture_run import NASTY_NAMES, build_run

__all__ = ["asked", "model"]  # fixtures

Headers = Mapping[str, str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 candidates in three rounds; VoG from the second on."""
    return build_run(tmp_path_factory.mktemp("runs") / "mine", baseline=False)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def get(
    address: str, headers: Headers | None = None, data: bytes | None = None
) -> tuple[int, bytes]:
    """Return status and body of a request."""
    request = urllib.request.Request(address, data=data, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def found(server: ReviewServer, **query: str) -> Any:
    status, body = get(f"{server.address}candidates?{urllib.parse.urlencode(query)}")
    assert status == 200, body
    return json.loads(body)


def post(
    server: ReviewServer, what: str, body: Any, headers: Headers | None = None
) -> tuple[int, Any]:
    sent = {"Content-Type": "application/json", TOKEN_HEADER: server.token, **(headers or {})}
    status, content = get(server.address + what, sent, json.dumps(body).encode())
    return status, json.loads(content) if content.startswith(b"{") else content


def judged(run: Path) -> list[Candidate]:
    tables = sorted(run.glob("rounds/*/judged.parquet"))
    return [candidate for path in tables for candidate in RecordTable.read(Candidate, path)]


# Who may ask


def test_without_the_token_nothing_is_answered(server: ReviewServer) -> None:
    root = f"http://127.0.0.1:{server.server_port}"
    id_ = found(server)["items"][0]["id"]
    for path in ("/", "", "/candidates", f"/image/{id_}", "/wrong/", f"/{server.token[:-1]}/",
                 f"/{server.token}x/candidates", f"/?token={server.token}", "//evil.example/",
                 f"/x/{server.token}/", "/%2e%2e/"):  # fmt: skip
        status, body = get(f"{root}{path}")
        assert status == 403, path
        assert id_.encode() not in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403), ("evil.example:{port}", 403), ("127.0.0.1.evil.example:{port}", 403),
        ("localhost.evil.example", 403), ("192.168.0.7:{port}", 403), ("", 403), 
        ("[::2]:{port}", 403),
        ("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("localhost:9999", 200),  # ssh -L
        ("[::1]:{port}", 200), ("localhost", 200),
    ],
)  # fmt: skip
def test_a_name_that_was_pointed_here_is_refused(
    server: ReviewServer, host: str, status: int
) -> None:
    headers = {"Host": host.format(port=server.server_port)}
    assert get(server.address + "candidates", headers)[0] == status


@pytest.mark.parametrize("target", ["http://[::1/", "//[", "*", "/;"])
def test_an_address_that_is_none_is_answered(server: ReviewServer, target: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.putrequest("GET", target, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    assert connection.getresponse().status == 403


def test_it_listens_on_this_machine_alone(server: ReviewServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.address.startswith(f"http://127.0.0.1:{server.server_port}/")
    assert len(server.token) >= 32


def test_a_decision_needs_the_token_in_a_header_and_no_other_origin(
    server: ReviewServer, run: Path
) -> None:
    body = {"id": found(server)["items"][0]["id"], "decision": "drop"}
    refused: list[Headers] = [
        {TOKEN_HEADER: ""},
        {TOKEN_HEADER: "x" * len(server.token)},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
    ]
    for headers in refused:
        assert post(server, "decide", body, headers)[0] == 403, headers
    assert get(server.address + "decide", {"Content-Type": "text/plain"}, b"{}")[0] == 403
    assert not (run / "review/decisions.jsonl").exists()
    own = {"Origin": f"http://127.0.0.1:{server.server_port}"}
    assert post(server, "decide", body, own)[0] == 200


@pytest.mark.parametrize(
    "id_",
    ["../../config.toml", "..%2f..%2fconfig.toml", "%2e%2e/%2e%2e/manifest.json", "/etc/passwd",
     "..%5c..%5cconfig.toml", "r000-0123456789abcdef-v0", "%00", "x" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["image", "thumbnail", "source"])
def test_no_path_leads_out_of_the_pool(server: ReviewServer, kind: str, id_: str) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as raw:  # no client cleans it
        request = f"GET /{server.token}/{kind}/{id_} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        raw.sendall(request.encode())
        answer = raw.makefile("rb").read()
    assert answer.split(b" ")[1] in (b"404", b"409"), answer[:80]
    assert b"[training]" not in answer


def test_odd_requests_are_a_sentence(server: ReviewServer) -> None:
    for body, words in (
        (b"[]", "not a JSON object"), (b"{", "not JSON"), (b"{}", "id is missing"),
        (b'{"id": 7, "decision": "drop"}', "id is missing"),
        (b'{"id": "nothing", "decision": "drop"}', "no candidate 'nothing'"),
        (b"[" * 60_000, "nested too deeply"), (b" " * (1 << 17), "65,536 bytes"),
    ):  # fmt: skip
        status, answer = get(server.address + "decide", {TOKEN_HEADER: server.token}, body)
        assert status == 409
        assert words in json.loads(answer)["error"]
    digits = {TOKEN_HEADER: server.token, "Content-Length": "9" * 5000}
    status, answer = get(server.address + "decide", digits, b"{}")
    assert (status, "65,536 bytes" in answer.decode()) == (409, True)
    for query in ("low=abc", "high=nan", "sort=up", "score=beauty", "verdict=ugly"):
        assert get(f"{server.address}candidates?{query}")[0] == 409
    assert get(server.address + "other")[0] == 404
    assert post(server, "other", {})[0] == 404


def test_the_page_loads_nothing_from_elsewhere_and_shows_hostile_names_as_text(
    tmp_path: Path,
) -> None:
    run = build_run(tmp_path / "run", class_names=NASTY_NAMES, rounds=1, baseline=False)
    with open_review(run) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        status, body = get(server.address)
        script = get(server.address + "review.js")[1].decode()
        items = found(server)["items"]
        of_class = found(server, **{"class": "2"})
        server.shutdown()
        thread.join()
    html = body.decode()
    assert status == 200
    assert "<script>alert" not in html
    assert html.count("<script") == 1
    assert "script-src &#x27;self&#x27;" in html
    assert "innerHTML" not in script
    assert not any("\u202e" in str(item) for item in items)
    assert {item["class"] for item in of_class["items"]} == {"a\ufffdb"}  # NASTY_NAMES[2]
    assert "http" not in html.split("<style>")[0].replace("http-equiv", "")


# What is found


def test_all_candidates_page_by_page(server: ReviewServer, run: Path) -> None:
    page = found(server)
    ids: list[str] = []
    while page["items"]:
        assert page["start"] == len(ids)
        assert len(page["items"]) <= PAGE
        ids += [item["id"] for item in page["items"]]
        if len(ids) == page["matching"]:
            break
        page = found(server, after=ids[-1])
    assert ids == [candidate.id for candidate in judged(run)]
    back = found(server, before=page["items"][0]["id"])
    assert [item["id"] for item in back["items"]] == ids[-len(page["items"]) - PAGE :][:PAGE]
    assert found(server, first=ids[100])["items"][0]["id"] == ids[100]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"class": "3"}, lambda c: c.class_name == "cat"),
        ({"round": "1"}, lambda c: c.round == 1),
        ({"source": "TRAIN-11"}, lambda c: c.source_id == "train-11"),
        ({"source": "train-1"}, lambda c: c.source_id == "train-1"),  # and not 10, 11
        ({"source": "rain"}, lambda _: True),
        ({"verdict": "in"}, lambda c: c.kept),
        ({"verdict": "out"}, lambda c: not c.kept),
        ({"verdict": "reason:vog"}, lambda c: c.rejected_by == "vog"),
        ({"verdict": "by-hand"}, lambda _: False),
        ({"low": "0.5"}, lambda c: c.vog is not None and c.vog >= 0.5),
        ({"low": "0.2", "high": "0.5", "class": "5"},
         lambda c: c.vog is not None and 0.2 <= c.vog <= 0.5 and c.class_name == "dog"),
        ({"score": "source", "high": "0.01"}, lambda c: c.marginal_score <= 0.01),
    ],
)  # fmt: skip
def test_filters(server: ReviewServer, run: Path, query: dict[str, str], wanted: Any) -> None:
    expected = [candidate.id for candidate in judged(run) if wanted(candidate)]
    page = found(server, **query)
    assert page["matching"] == len(expected)
    assert [item["id"] for item in page["items"]] == expected[:PAGE]


def test_sorted_by_score_those_without_one_last(server: ReviewServer, run: Path) -> None:
    scores = [candidate.vog for candidate in judged(run) if candidate.vog is not None]
    low = [item["vog"] for item in found(server, sort="low")["items"]]
    high = [item["vog"] for item in found(server, sort="high")["items"]]
    assert low == sorted(scores)[:PAGE]
    assert high == sorted(scores, reverse=True)[:PAGE]


def test_each_is_shown_with_its_source_and_reason_in_words(server: ReviewServer, run: Path) -> None:
    item = found(server, verdict="reason:vog")["items"][0]
    candidate = next(c for c in judged(run) if c.id == item["id"])
    assert item["verdict"] == "dropped by the VoG filter"
    assert (item["prompt"], item["source"]) == (candidate.prompt, candidate.source_id)
    image = run / f"pool/{candidate.round:03d}/{candidate.id}.png"
    assert get(f"{server.address}image/{candidate.id}")[1] == image.read_bytes()
    for kind in ("source", "thumbnail"):
        status, content = get(f"{server.address}{kind}/{candidate.id}")
        assert status == 200
        assert content.startswith(b"\x89PNG")


# What is decided


def test_decisions_are_on_disk_and_counted(server: ReviewServer, run: Path) -> None:
    kept, refused = (found(server, verdict=v)["items"][0] for v in ("in", "reason:vog"))
    status, answer = post(server, "decide", {"id": kept["id"], "decision": "drop"})
    assert status == 200
    assert not answer["item"]["in_pool"]
    post(server, "decide", {"id": refused["id"], "decision": "keep"})
    decisions = read_decisions(RunFolder(run))
    assert decisions.of_id == {kept["id"]: "drop", refused["id"]: "keep"}
    counts = found(server)["counts"]
    assert (counts["dropped"], counts["kept"], counts["decided"]) == (1, 1, 2)
    assert counts["in_pool"] == sum(candidate.kept for candidate in judged(run))
    assert found(server, verdict="by-hand")["matching"] == 2
    for _ in range(2):
        assert post(server, "undo", {})[0] == 200
    assert read_decisions(RunFolder(run)).of_id == {}
    assert post(server, "undo", {}) == (
        409, {"error": "there is nothing to undo since this review was opened"},
    )  # fmt: skip


def test_what_the_disk_has_no_room_for_is_not_decided(server: ReviewServer, run: Path) -> None:
    """However much of the lines fits: the page, the file and the next decision agree."""
    resource = pytest.importorskip("resource")
    first, second = (found(server, verdict="in")["items"][place]["id"] for place in (0, 1))
    query = {"class": "3", "round": "1"}
    count = found(server, **query)["droppable"]
    post(server, "decide", {"id": first, "decision": "drop"})
    decisions = RunFolder(run).decisions_file
    before, counts = decisions.read_bytes(), found(server)["counts"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1, len(before) - 1, len(before), int(1.5 * len(before))):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
        try:
            status, answer = post(server, "drop", {"query": query, "expected": count})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert status == 500
        assert str(decisions) in answer["error"]
        assert decisions.read_bytes() == before
        assert found(server)["counts"] == counts
    assert post(server, "decide", {"id": second, "decision": "drop"})[0] == 200
    assert read_decisions(RunFolder(run)).of_id == {first: "drop", second: "drop"}


def test_all_that_match_are_dropped_at_once_and_taken_back(server: ReviewServer, run: Path) -> None:
    query = {"class": "3", "round": "1"}
    wanted = {c.id for c in judged(run) if c.class_name == "cat" and c.round == 1 and c.kept}
    assert found(server, **query)["droppable"] == len(wanted) > 1
    status, answer = post(server, "drop", {"query": query, "expected": len(wanted) + 1})
    assert status == 409
    assert "look again" in answer["error"]
    assert post(server, "drop", {"query": query, "expected": len(wanted)})[1] == {
        "dropped": len(wanted)
    }
    assert set(read_decisions(RunFolder(run)).of_id) == wanted
    assert set(post(server, "undo", {})[1]["undone"]) == wanted
    assert read_decisions(RunFolder(run)).of_id == {}


def test_dropping_while_paging_skips_nothing(server: ReviewServer, run: Path) -> None:
    expected = [candidate.id for candidate in judged(run) if candidate.kept]
    page = found(server, verdict="in")
    seen: list[str] = []
    while page["items"] and (not seen or page["items"][0]["id"] not in seen):
        seen += [item["id"] for item in page["items"]]
        for item in page["items"][:10]:
            post(server, "decide", {"id": item["id"], "decision": "drop"})
        page = found(server, verdict="in", after=seen[-1])
    assert seen == expected


def test_what_may_not_be_kept_is_refused_with_the_reason(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", rounds=1, baseline=False, finished=False, sealed=False)
    path = run / "rounds/000/judged.parquet"
    reasons = (
        "repeats-test-image",
        "repeats-validation-image",
        "class-cut-off",
        "black-image",
        "vog",
    )
    table = RecordTable.read(Candidate, path)
    given = [*reasons, *(None for _ in range(len(table) - len(reasons)))]
    with path.open("wb") as stream:
        table.with_column("rejected_by", given).write(stream)
    RunFolder(run).mark_round_done(0)
    candidates = Candidates(RunFolder(run))
    ids = table.column("id")
    for id_, words in zip(
        ids, ("near-duplicate of a test", "of a validation image", "class name cut off", "black"),
        strict=False,
    ):  # fmt: skip
        with pytest.raises(RequestError, match=f"cannot be kept .*{words}"):
            candidates.decide(id_, "keep")
        assert words in candidates.shown(id_)["why_not"]
    candidates.decide(ids[4], "keep")
    assert candidates.counts()["kept"] == 1


def test_a_damaged_image_is_said_and_not_kept(server: ReviewServer, run: Path) -> None:
    item = found(server, verdict="reason:vog")["items"][0]
    path = run / f"pool/{item['round']:03d}/{item['id']}.png"
    path.write_bytes(path.read_bytes()[:-20])
    for kind in ("image", "thumbnail"):
        status, body = get(f"{server.address}{kind}/{item['id']}")
        assert status == 409
        assert b"has changed since it was written" in body
    status, answer = post(server, "decide", {"id": item["id"], "decision": "keep"})
    assert status == 409
    assert "has changed" in answer["error"]
    path.unlink()
    assert post(server, "decide", {"id": item["id"], "decision": "keep"})[0] == 409
    assert not (run / "review/decisions.jsonl").exists()


# Which folders


def test_a_second_review_of_the_same_run_is_refused(server: ReviewServer, run: Path) -> None:
    with pytest.raises(RunFolderError, match=r"another review of .* is open"), open_review(run):
        pass


def test_a_round_that_ends_meanwhile_is_shown_after_a_reload(
    finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    mark = (run / "rounds/002/DONE").rename(tmp_path / "mark")
    (run / "DONE").unlink()
    with open_review(run) as server:
        assert server.candidates.counts()["total"] == 120
        mark.rename(run / "rounds/002/DONE")
        server.candidates.refresh()
        assert server.candidates.counts()["total"] == 180


def test_a_run_that_writes_does_not_keep_a_review_out(run: Path) -> None:
    with RunFolder(run).lock(), open_review(run) as server:
        server.candidates.decide(judged(run)[0].id, "drop")
    assert len(read_decisions(RunFolder(run)).of_id) == 1


def test_the_folder_of_a_loop_of_your_own(asked: Asked) -> None:
    agent, folder, model = asked
    with open_review(folder.path) as server:
        candidates = server.candidates
        item = candidates.page(Query(verdict="in"))["items"][0]
        assert item["has_source"]
        candidates.decide(item["id"], "drop")
    assert item["id"] not in agent.ask(model, epoch=2).ids


def test_folders_with_nothing_to_review(finished: Path, tmp_path: Path) -> None:
    real = build_run(tmp_path / "real", agent=False)
    unfinished = build_run(tmp_path / "unfinished", rounds=0, finished=False, baseline=False)
    ended = build_run(tmp_path / "ended", rounds=0, baseline=False)
    damaged = Path(shutil.copytree(finished, tmp_path / "damaged"))
    for path in damaged.glob("rounds/*/judged.parquet"):
        path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    for folder, words in (
        (real, "real images alone"), (unfinished, "no round of .* is finished yet"),
        (ended, "ended without a round"), (damaged, "judged.parquet has changed"),
        (tmp_path / "empty", "not a run folder"), (tmp_path / "none", "not a run folder"),
    ):  # fmt: skip
        with pytest.raises(RunFolderError, match=words), open_review(folder):
            pass
        assert not (folder / "review").exists()


def test_one_damaged_round_is_said_and_the_others_are_shown(run: Path) -> None:
    flipped = run / "rounds/001/judged.parquet"
    flipped.write_bytes(flipped.read_bytes()[:-1])
    with open_review(run) as server:
        assert server.candidates.rounds == [0, 2]
        assert "judged.parquet has changed" in server.candidates.problems[0]


def test_decisions_of_another_run_are_refused_by_name(run: Path) -> None:
    with open_review(run) as server:
        server.candidates.decide(judged(run)[0].id, "drop")
    row = read_journal(run / "review/decisions.jsonl")[0] | {"id": "r001-stranger-v0"}
    append_row(run / "review/decisions.jsonl", row)
    with pytest.raises(RunFolderError, match="r001-stranger-v0"), open_review(run):
        pass


def test_a_port_in_use_is_a_setting_to_change(server: ReviewServer, finished: Path) -> None:
    with pytest.raises(ConfigError, match="--port"), open_review(finished, port=server.server_port):
        pass


def test_the_command_says_the_address_and_ends_quietly(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: ReviewServer) -> None:
        self.candidates.decide(judged(run)[0].id, "drop")
        raise KeyboardInterrupt

    monkeypatch.setattr(ReviewServer, "serve_forever", interrupted)
    result = CliRunner().invoke(app, ["review", str(run), "--no-browser"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("open http://127.0.0.1:")
    assert lines[-1] == "by hand: 1 dropped, 0 kept"
    assert read_decisions(RunFolder(run)).of_id == {judged(run)[0].id: "drop"}
