"""What is taken at most: the interface's own limits, and with the operator's all that is published.

A limit stands once, here or in the settings; what enforces it takes it from there.
"""

from collections.abc import Mapping

from deconvnet_app.imaging import forkserver
from deconvnet_app.settings import Settings

HEAD_BYTES = 64 * 1024  # of a request; what uvicorn takes at one go may be more
TEXT_CHARS = 256  # custom_id, and each name and value of metadata
METADATA_ENTRIES = 32
OBJECT_NAMES = 1000  # in one object of a JSON body
KEY_CHARS = 255  # Idempotency-Key
JOB_TIMEOUT_S = 7 * 86_400
PAGE_ITEMS = 1000
WAIT_S = 60  # Prefer: wait
RANGES = 16  # parts of a file in one request
KEEP_ALIVE_S = 15  # a stream of events is silent no longer


def objects(settings: Settings) -> int:
    """In one JSON body: each input is one, and there is room for lists that are too long."""
    return 4 * settings.job_inputs + OBJECT_NAMES


def in_force(settings: Settings) -> Mapping[str, int | float]:
    """Every limit that a client may meet, by the name under which it is published."""
    return {
        "file_bytes": settings.file_bytes,
        "image_pixels": settings.image_pixels,
        "image_side": settings.image_side,
        "image_cpu_s": forkserver.READING_CPU_S,
        "image_memory_bytes": forkserver.MEMORY_BYTES,
        "request_bytes": settings.request_bytes,
        "json_bytes": settings.json_bytes,
        "head_bytes": HEAD_BYTES,
        "receive_s": settings.receive_s,
        "receive_bytes_per_s": settings.receive_rate,
        "connections": settings.connections,
        "submissions_per_minute": settings.submissions,
        "uploads_per_minute": settings.uploads,
        "object_names": OBJECT_NAMES,
        "json_objects": objects(settings),
        "job_inputs": settings.job_inputs,
        "job_timeout_s": JOB_TIMEOUT_S,
        "queued_jobs": settings.queued_jobs,
        "custom_id_chars": TEXT_CHARS,
        "metadata_entries": METADATA_ENTRIES,
        "metadata_chars": TEXT_CHARS,
        "idempotency_key_chars": KEY_CHARS,
        "wait_s": WAIT_S,
        "unit_timeout_s": settings.unit_timeout_s,
        "page_items": PAGE_ITEMS,
        "ranges": RANGES,
        "event_streams": settings.event_streams,
        "event_silence_s": KEEP_ALIVE_S,
        "artifact_bytes": settings.artifact_bytes,
        "retention_s": settings.retention_s,
    }
