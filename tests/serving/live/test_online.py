"""What is wrong with a Redis, or with what is said of the store, in one sentence that says what to do."""

import json
import shutil

import pytest

from components.contracts import AlphaloopError
from components.feature_store.config import Settings as FeatureStoreSettings
from serving.live.online import OnlineReader
from tests.serving.live_service import free_port, redis_server
from tests.serving.small_champion import STORE as SQLITE

VARIABLE = "ALPHALOOP_TEST_REDIS"
STORE = FeatureStoreSettings(lookback_bars=16, online="redis", redis_variable=VARIABLE)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A Redis server that wants a password."""
    import redis

    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    with redis_server(tmp_path_factory.mktemp("redis")) as (_, port):
        redis.Redis(port=port).config_set("requirepass", "right")
        yield port


@pytest.mark.parametrize("lost", ["context", "columns", "symbols", "lookback_bars"])
def test_a_description_that_lost_a_part_is_named(small_run, tmp_path, lost):
    store = shutil.copytree(small_run.folder / "feature_store", tmp_path / "store")
    current = json.loads((store / "current.json").read_text())
    (store / "current.json").write_text(
        json.dumps({name: value for name, value in current.items() if name != lost})
    )
    with pytest.raises(AlphaloopError, match=rf"current\.json lacks '{lost}'.* Run `alphaloop materialise`"):
        OnlineReader(SQLITE, store)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("redis://127.0.0.1:{port}", "holds a redis:// address"),
        ("rediss://:right@127.0.0.1:{port}/0", "host:port"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:{port}", "Authentication required"),
        ("127.0.0.1:{port},password=wrong", "invalid username-password pair"),
        ("127.0.0.1:{port},password=right,db=99", "out of range"),
        ("127.0.0.1:{port},password=right,colour=red", "does not know: .*colour"),
        ("127.0.0.1:{nobody}", "refused"),
        ("nowhere.invalid:{port}", "nowhere.invalid"),
    ],
)
def test_what_is_wrong_with_a_redis_is_one_sentence(small_run, port, monkeypatch, address, words):
    monkeypatch.setenv(VARIABLE, address.format(port=port, nobody=free_port()))
    with pytest.raises(AlphaloopError, match=words) as caught:
        OnlineReader(STORE, small_run.folder / "feature_store").read(range(1))
    assert VARIABLE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "right" not in str(caught.value)
