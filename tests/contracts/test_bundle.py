"""The bundle's manifest: a whole bundle passes, every kind of tampering is named."""

import json

import pytest

from components.contracts import BundleError, verify_bundle, write_manifest


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "experts" / "a").mkdir(parents=True)
    (folder / "experts" / "a" / "model.txt").write_text("tree")
    (folder / "experts" / "a" / "manifest.json").write_text("{}")
    (folder / "scaler.json").write_text("{}")
    write_manifest(folder, {"schema": "s1"})
    return folder


def test_a_whole_bundle_passes_and_its_hash_covers_the_files_only(bundle):
    first = verify_bundle(bundle)
    assert set(first["files"]) == {"experts/a/model.txt", "experts/a/manifest.json", "scaler.json"}
    assert write_manifest(bundle, {"schema": "s2"}) == first["sha256"]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda b: (b / "scaler.json").write_text("{ }"), "scaler.json was changed"),
        (lambda b: (b / "scaler.json").unlink(), "scaler.json is missing"),
        (lambda b: (b / "extra.json").write_text(""), "extra.json is not in the manifest"),
        (lambda b: (b / "manifest.json").unlink(), "no readable manifest.json"),
        (lambda b: (b / "manifest.json").write_text("[]"), "no readable manifest.json"),
        (
            lambda b: (b / "manifest.json").write_text('{"files": [1], "sha256": ""}'),
            "no readable manifest.json",
        ),
        (lambda b: (b / "manifest.json").write_text('{"files": {}}'), "no readable manifest.json"),
    ],
)
def test_tampering_is_named(bundle, tamper, words):
    tamper(bundle)
    with pytest.raises(BundleError, match=words):
        verify_bundle(bundle)


def test_a_file_swapped_together_with_its_entry_is_found(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "scaler.json").write_text("evil")
    from components.contracts import file_sha256

    manifest["files"]["scaler.json"] = file_sha256(bundle / "scaler.json")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="the manifest was changed"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "code.py"])
def test_files_that_can_execute_code_are_refused(bundle, name):
    (bundle / name).write_bytes(b"\x80\x04")
    with pytest.raises(BundleError, match="not of a kind that a bundle may hold"):
        write_manifest(bundle, {})
