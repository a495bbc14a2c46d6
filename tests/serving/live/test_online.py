"""What is wrong with a Redis, in one sentence that says what to do."""

import shutil

import pytest

from components.contracts import AlphaloopError
from components.feature_store.config import Settings as FeatureStoreSettings
from serving.live.online import OnlineReader
from tests.serving.live_service import free_port, redis_server

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
