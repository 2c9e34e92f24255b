"""S3 stores for the tests: here ``moto_server``, a quick fake in a process of its own; in :mod:`.seaweedfs` a real one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

KEY, SECRET = "store-key", "store-secret-3f6c"
"""What the stores take for credentials; tests look that the second is nowhere."""

_numbers = count(1)


@dataclass
class ObjectStore:
    """A running store.

    Its buckets are made by :meth:`bucket`, each under a fresh name; boto3, which moto brings, looks at what is in them.
    """

    endpoint: str

    @cached_property
    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{next(_numbers)}"
        self.client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Put one object."""
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def put_tree(self, bucket: str, key: str, folder: Path) -> None:
        """Put every file of a folder below *key*."""
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            self.put(bucket, f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of all objects in a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def profile(self, root: str, **more: Any) -> Mapping[str, Any]:
        """Return a profile of ``config/profiles.yaml`` at *root* (``bucket/prefix``); :attr:`environment` has what it names."""
        return {
            "protocol": "s3",
            "root": f"s3://{root}",
            "endpoint_url": self.endpoint,
            "key_env": "STORE_KEY",
            "secret_env": "STORE_SECRET",
            **more,
        }

    environment = {"STORE_KEY": KEY, "STORE_SECRET": SECRET}  # noqa: RUF012 - read only


@contextmanager
def running() -> Iterator[ObjectStore]:
    """Run a store on a free port until left."""
    server = Path(sys.executable).with_name("moto_server")
    command = [str(server), "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        reading: Thread | None = None
        try:
            for line in process.stderr:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    # Each request is a line: a pipe that nobody reads would fill and stop it.
                    reading = Thread(target=process.stderr.read, daemon=True)
                    reading.start()
                    yield ObjectStore(found[0])
                    return
            raise RuntimeError(f"moto_server ended with {process.wait()}")
        finally:
            process.kill()
            if reading is not None:
                reading.join()
