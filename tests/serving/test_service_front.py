"""The service before real clients: Java's, browsers' preflights, proxies that say for whom they ask, and one
that shows it below a prefix.
"""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import ORIGIN, PREFIX, Shared
from tests.serving.live_service import free_port, listens, until

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
JAVA = """
import java.net.URI;
import java.net.http.*;

public class Ask {
  public static void main(String[] given) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    String body = "{\\"symbols\\": [\\"S01\\", \\"S02\\"]}";
    for (int turn = 0; turn < 3; turn++) {
      HttpRequest request = HttpRequest.newBuilder(URI.create(given[0] + "/signals"))
          .header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString(body)).build();
      HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
      System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body());
    }
  }
}
"""


@pytest.fixture(scope="module", autouse=True)
def champion(shared: Shared) -> None:
    shared.crown(shared.run.bundles[0], 1)


@contextlib.contextmanager
def nginx(folder: Path, location: str, server: str = "") -> Iterator[str]:
    """nginx before the service, with this `location` (and lines beside it); yields its address."""
    port = free_port()
    kept = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{name}_temp_path {folder}/{name};" for name in kept)
    config = folder / "nginx.conf"
    config.write_text(
        f"pid {folder}/pid; error_log {folder}/error.log; daemon off; master_process off;\n"
        f"events {{}}\nhttp {{ access_log off; {places}\n{server}\n"
        f"server {{ listen 127.0.0.1:{port};\n{location}\n}} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(config), "-p", str(folder)], stderr=subprocess.PIPE)
    try:
        until(lambda: listens(port) or process.poll() is not None, what="nginx")
        assert process.poll() is None, process.stderr.read().decode()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java is installed")
def test_javas_client_which_offers_an_upgrade_is_answered(shared, tmp_path):
    program = tmp_path / "Ask.java"
    program.write_text(JAVA)
    command = ["java", str(program), shared.live.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith('200 HTTP_1_1 {"request_id":') for line in lines), lines


def test_head_says_what_get_would(shared):
    for path in (
        "/model",
        "/status",
        "/openapi.json",
        "/metrics",
        "/livez",
        "/readyz",
        "/review/",
        "/nothing",
    ):
        got, headed = shared.live.client.get(path), shared.live.client.head(path)
        assert (headed.status_code, headed.content) == (got.status_code, b""), path
        assert headed.headers.get("content-type") == got.headers.get("content-type"), path


def preflight(shared: Shared, origin: str, **more: str) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": "POST", **more}
    return shared.live.client.request("OPTIONS", "/signals", headers=headers)


def test_a_page_of_a_named_origin_may_ask_and_no_other(shared):
    allowed = preflight(shared, ORIGIN, **{"access-control-request-headers": "authorization,content-type"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in allowed.headers
    for origin in (
        "https://evil.example",
        f"{ORIGIN}.evil.example",
        "null",
        f"{ORIGIN}:8443",
        ORIGIN.upper(),
    ):
        refused = preflight(shared, origin)
        assert refused.status_code == 400, origin
        assert "access-control-allow-origin" not in refused.headers
    ours = shared.live.client.get("/model", headers={"origin": ORIGIN})
    assert ours.headers["access-control-allow-origin"] == ORIGIN
    assert (
        "access-control-allow-origin"
        not in shared.live.client.get("/model", headers={"origin": "https://evil.example"}).headers
    )


def test_without_origins_there_is_no_cors(small_run):
    from starlette.middleware.cors import CORSMiddleware

    from serving.api.front import layers
    from serving.config import Settings

    assert CORSMiddleware not in [layer for layer, _ in layers(Settings(), ours=None)]


def test_links_and_the_description_carry_the_prefix_and_both_forms_of_a_path_are_answered(shared):
    client = shared.live.client
    index = client.get(PREFIX).json()
    assert index == client.get("/").json()
    for name in ("openapi", "model", "status", "review", "metrics", "ready"):
        assert index[name].startswith(f"{PREFIX}/")
        assert client.get(index[name]).status_code == 200, name
    described = client.get(f"{PREFIX}/openapi.json").json()
    assert described["servers"] == [{"url": PREFIX}]
    for path in described["paths"]:
        assert client.options(described["servers"][0]["url"] + path).status_code == 405
    assert client.get(f"{PREFIX}x/model").status_code == 404
    assert client.get(f"{PREFIX}{PREFIX}/model").status_code == 404


@needs_nginx
@pytest.mark.parametrize(
    "said",
    [
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-For 127.0.0.1;",
        "proxy_set_header X-Real-IP 127.0.0.1;",
        "proxy_set_header Forwarded for=127.0.0.1;",
        "proxy_set_header Via 1.1;",
        "proxy_set_header Host desk.example;",
    ],
)
def test_without_a_key_nothing_that_a_proxy_says_it_passes_on_is_answered(shared, tmp_path, said):
    with nginx(tmp_path, f"location / {{ {said} proxy_pass {shared.live.url}; }}") as url:
        answer = httpx.get(f"{url}/model")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "loopback_only")
        assert httpx.get(f"{url}/readyz").status_code == 200


def documented(shared: Shared) -> str:
    """The proxy's settings in the docs, for the service and the prefix of this test."""
    found = re.search(r"```nginx\n(.*?)```", DOCS.read_text(), re.DOTALL)
    text = found[1].replace("http://127.0.0.1:3000", shared.live.url)
    return text.replace("/alphaloop", PREFIX)


@needs_nginx
def test_what_the_docs_say_to_set_in_nginx_works_below_a_prefix(shared, tmp_path):
    with nginx(tmp_path, documented(shared)) as url, httpx.Client(base_url=url) as client:
        assert client.get(f"{PREFIX}/readyz").status_code == 200
        # It says for whom it asks: a service without a key does not take its clients for this machine.
        refused = client.get(f"{PREFIX}/model")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "loopback_only")
        assert client.get("/model").status_code == 404
