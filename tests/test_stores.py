"""The stores that tests start: what is killed is gone, what is started again has its data."""

from tests.stores import BUCKET, listens, s3_server


def test_a_store_that_was_killed_comes_back_with_its_data(monkeypatch):
    from pyarrow import fs

    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = fs.S3FileSystem(endpoint_override=server.environment["AWS_ENDPOINT_URL"])
        with store.open_output_stream(f"{BUCKET}/folder/file") as stream:
            stream.write(b"content")
        server.kill()
        assert not listens(server.port)
        server.start()
        assert store.open_input_stream(f"{BUCKET}/folder/file").read() == b"content"
    assert not listens(server.port)
