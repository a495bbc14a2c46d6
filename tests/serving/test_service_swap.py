"""The hot swap: no request fails or mixes two models, and a bundle that must not be served never is."""

import json
import shutil
import threading

import httpx
import pytest

from components.contracts import atomic_write_text, file_sha256, write_manifest
from components.scoring import Model
from tests.serving.live_service import Live, until
from tests.serving.small_champion import SmallRun, crown

SWAPS = 20
CLIENTS = 3


@pytest.fixture(scope="module")
def run(shared) -> SmallRun:
    return shared.run


@pytest.fixture(scope="module")
def live(shared) -> Live:
    return shared.live


def hammer(url: str, body: dict, path: str, stop: threading.Event, found: list) -> None:
    """Ask until told to stop; what came back goes to `found`."""
    with httpx.Client(base_url=url, timeout=120) as client:
        while not stop.is_set():
            try:
                answer = client.post(path, json=body)
                found.append((answer.status_code, answer.json()))
            except httpx.HTTPError as error:
                found.append((0, repr(error)))


def is_seen(version: int, found: dict[str, list]) -> bool:
    """Whether the newest answers name the version."""
    newest = [answer for answers in found.values() for answer in answers[-2 * CLIENTS :]]
    return any(status == 200 and answer["model"]["version"] == version for status, answer in newest)


def columns_of(answer: dict) -> dict[str, list[float]]:
    return {
        name: [signal[name] for signal in answer["signals"]]
        for name in ("score", "p10", "p90", "uncertainty", "position")
    }


def test_twenty_swaps_under_load_without_a_failed_or_mixed_answer(shared, live, run):
    symbols = run.market.symbols
    row = run.market.factors.filter(run.market.factors["symbol"] == symbols[0]).tail(1).to_dicts()[0]
    model = Model.load(run.bundles[0])
    given = {
        name: None if row[name] is None or row[name] != row[name] else row[name]
        for name in (*model.columns, *model.context)
    }
    bodies = {
        "/signals": {"symbols": symbols},
        "/score": {
            "rows": [{"symbol": symbols[0], "timestamp": row["timestamp"].isoformat(), "features": given}]
        },
    }

    # Each bundle's own answers, taken in calm.
    calm: dict[str, dict[str, dict]] = {}
    for number, bundle in enumerate(run.bundles, start=1):
        shared.crown(bundle, 100 + number)
        calm[bundle.name] = {
            path: columns_of(live.client.post(path, json=body).json()) for path, body in bodies.items()
        }
    assert calm[run.bundles[0].name]["/signals"]["score"] != calm[run.bundles[1].name]["/signals"]["score"]

    swapped = live.metric("swaps_total", result="swapped")
    stop, found = threading.Event(), {path: [] for path in bodies}
    threads = [
        threading.Thread(target=hammer, args=(live.url, bodies[path], path, stop, found[path]))
        for path in bodies
        for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(SWAPS):
            version, bundle = 200 + number, run.bundles[number % 2]
            crown(run.folder, bundle, version)
            until(lambda v=version: is_seen(v, found), what=f"an answer of version {version}")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    bundle_of = {200 + number: run.bundles[number % 2].name for number in range(SWAPS)} | {
        102: run.bundles[1].name
    }
    seen = set()
    for path, answers in found.items():
        assert [answer for answer in answers if answer[0] != 200] == []
        for _, answer in answers:
            named = answer["model"]
            assert bundle_of[named["version"]] == named["bundle_sha256"]
            seen.add(named["version"])
            for name, values in columns_of(answer).items():
                assert values == pytest.approx(calm[named["bundle_sha256"]][path][name], abs=1e-7), (
                    path,
                    name,
                    named["version"],
                )
    assert len(seen) >= SWAPS
    assert live.metric("swaps_total", result="swapped") == swapped + SWAPS
    assert live.metric("champion_version") == 200 + SWAPS - 1


def spoil(run: SmallRun, folder, change) -> dict:
    """A copy of the second bundle, changed, and the champion.json that names it."""
    shutil.copytree(run.bundles[1], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder)
    about = json.loads((run.folder / "serving" / "champion.json").read_text())
    checked = (
        file_sha256(run.bundles[1] / "manifest.json")
        if change is larger_positions or not folder.exists()
        else file_sha256(folder / "manifest.json")
    )
    return {**about, "folder": str(folder), "bundle_sha256": manifest["sha256"], "manifest_sha256": checked}


def larger_positions(folder):
    """A change that no file's hash shows: the sizing of positions stands in the manifest itself."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["config"]["backtest"]["max_weight"] = 1.0
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip_a_byte(folder):
    path = next(folder.glob("experts/*/served.json"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def lose_a_file(folder):
    next(folder.glob("experts/*/served.json")).unlink()


def lose_everything(folder):
    shutil.rmtree(folder)


def slip_a_pickle_in(folder):
    (folder / "model.pkl").write_bytes(b"\x80\x04.")


def remake(folder, edit):
    """Edit the bundle and make its manifest anew, so that all hashes fit: what a registry with a wrong model
    would hand over.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    about = {key: value for key, value in manifest.items() if key not in ("sha256", "files")}
    edit(folder, about)
    (folder / "manifest.json").unlink()
    write_manifest(folder, about)


def another_schema(folder):
    def edit(folder, about):
        features = json.loads((folder / "features.json").read_text())
        turned = [*features["columns"][1:], features["columns"][0]]
        (folder / "features.json").write_text(
            json.dumps({**features, "columns": turned, "schema": "0123456789ab"})
        )
        for path in folder.glob("experts/*/served.json"):
            form = json.loads(path.read_text())
            path.write_text(json.dumps({**form, "columns": turned}))
        about["schema"] = "0123456789ab"

    remake(folder, edit)


def no_book(folder):
    remake(folder, lambda folder, about: about.update(config={}))


FAULTS = {
    "a flipped byte": (flip_a_byte, "changed after the bundle was made", False),
    "a missing file": (lose_a_file, "is missing", False),
    "no folder": (lose_everything, "no readable manifest", False),
    "a pickle": (slip_a_pickle_in, "not in the manifest", False),
    "another schema": (another_schema, "schema", True),
    "no book": (no_book, "config.backtest", True),
    "a changed manifest": (larger_positions, "not the one that the champion watcher checked", False),
    "another bundle than named": (
        lambda folder: remake(folder, lambda f, about: (f / "note.txt").write_text("x")),
        "champion.json names",
        False,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_must_not_be_served_is_refused_and_the_old_model_goes_on(shared, live, run, tmp_path, name):
    change, words, renamed = FAULTS[name]
    shared.crown(run.bundles[0], 300)
    told = live.log.read_text().count("Refused version 301")
    before, refused = (
        columns_of(live.signals(*run.market.symbols).json()),
        live.metric("swaps_total", result="refused"),
    )
    about = spoil(run, tmp_path / "bundle", change)
    if renamed:
        about["bundle_sha256"] = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["sha256"]
    atomic_write_text(run.folder / "serving" / "champion.json", json.dumps({**about, "version": 301}))
    until(lambda: live.metric("swaps_total", result="refused") == refused + 1, what="the refusal")
    model = live.client.get("/model").json()
    assert (model["version"], model["last_refusal"]["version"]) == (300, 301)
    assert words in model["last_refusal"]["reason"]
    assert live.status()["last_refusal"]["reason"] == model["last_refusal"]["reason"]
    assert columns_of(live.signals(*run.market.symbols).json()) == before
    assert live.ready()
    # Looked at again and again, it is counted and logged once.
    shared.looked()
    assert live.metric("swaps_total", result="refused") == refused + 1
    assert live.log.read_text().count("Refused version 301") == told + 1
    shared.crown(run.bundles[1], 302)
    assert live.client.get("/model").json()["last_refusal"] is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 9}', '{"version": "x", "bundle_sha256": 3, "folder": null}']
)
def test_a_broken_champion_file_changes_nothing(shared, live, run, text):
    shared.crown(run.bundles[0], 400)
    atomic_write_text(run.folder / "serving" / "champion.json", text)
    shared.looked()
    assert live.signals("S01").json()["model"]["version"] == 400
    assert live.ready()
    assert str(run.folder / "serving" / "champion.json") in live.status()["last_refusal"]["reason"]
    shared.crown(run.bundles[1], 401)


def test_the_same_bundle_under_a_new_version_is_renamed_without_loading(shared, live, run):
    shared.crown(run.bundles[0], 500)
    swapped = live.metric("swaps_total", result="swapped")
    shared.crown(run.bundles[0], 501, why="registered again")
    assert live.signals("S01").json()["model"]["version"] == 501
    assert live.client.get("/model").json()["why"] == "registered again"
    assert live.metric("swaps_total", result="swapped") == swapped
    assert live.metric("champion_version") == 501
