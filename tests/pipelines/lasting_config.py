"""What a config must say so that nothing of a cluster run vanishes with its pods."""

LASTING = (
    "registry.tracking_uri=http://mlflow.alphaloop:5000",
    "feature_store.online=redis",
    "cluster.secrets={ALPHALOOP_REDIS: {secret: redis, key: address}}",
    "run.store=s3://alphaloop/demo",
)
