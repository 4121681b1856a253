"""An object store of S3's kind, in this process."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import boto3
from moto.server import ThreadedMotoServer

ACCOUNT = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def object_store(bucket: str = "shop", address: str = "127.0.0.1") -> Iterator[str]:
    """Run it and yield the pyarrow URI of a bucket; the account is in the environment meanwhile."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        with patch.dict(os.environ, ACCOUNT):
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket=bucket)
            yield f"s3://{bucket}?endpoint_override={url}"
    finally:
        server.stop()
