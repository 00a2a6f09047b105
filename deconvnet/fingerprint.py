"""Names for content: one short hash of everything that a result depends on.

A fingerprint is a SHA-256 in hex, 64 digits. Values are written as canonical JSON (keys
sorted, floats by their shortest exact spelling); tensors by name, dtype, shape and bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def canonical(value: Any) -> bytes:
    """JSON with one spelling per value.

    Raises:
        ValueError: NaN or infinity, which JSON has not.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def of(value: Any) -> str:
    """The fingerprint of a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def of_bytes(data: bytes) -> str:
    """The fingerprint of bytes."""
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """The fingerprint of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """The fingerprint of named arrays (a module's weights), whatever their order."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        # Its own memory, not a copy: a fully connected layer's weights are hundreds of megabytes.
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
