"""What answers look like, for OpenAPI: an example of each shape, and of each refusal."""

from collections.abc import Mapping
from typing import Any

_IMAGE, _JOB = f"img_{'0' * 32}", f"job_{'0' * 32}"
_SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_COUNTS = {"total": 2, "succeeded": 1, "failed": 0, "skipped": 0}

EXAMPLES: Mapping[str, Any] = {
    "Root": {
        "name": "deconvnet",
        "version": "0.1.0",
        "limits": {"file_bytes": 20_971_520, "queued_jobs": 100},
        "links": {"self": "/api/v1", "jobs": "/api/v1/jobs"},
    },
    "ModelSummary": {
        "name": "zfnet64",
        "indexes": ["photos"],
        "links": {"self": "/api/v1/models/zfnet64", "layers": "/api/v1/models/zfnet64/layers"},
    },
    "ModelView": {
        "name": "zfnet64",
        "description": {"title": "ZFNet at 64×64", "input_size": [3, 64, 64]},
        "indexes": ["photos"],
        "links": {"self": "/api/v1/models/zfnet64", "layers": "/api/v1/models/zfnet64/layers"},
    },
    "UnitView": {
        "model": "zfnet64",
        "unit": "conv5:7",
        "layer": {"name": "conv5", "shape": [160, 8, 8], "receptive_field": 51, "jump": 8},
        "channel": 7,
        "indexes": {"photos": {"mean": 0.04, "fire_share": 0.11}},
    },
    "MethodView": {
        "name": "occlusion",
        "title": "Occlusion sensitivity",
        "source": "Zeiler & Fergus 2013, section 4.2",
        "explains": ["class", "unit"],
        "params": {"type": "object", "properties": {"size": {"type": "integer"}}},
    },
    "DatasetView": {
        "id": "photos",
        "count": 24,
        "skipped": 0,
        "labels": ["cold", "warm"],
        "links": {"images": "/api/v1/datasets/photos/images"},
    },
    "DatasetImage": {"n": 0, "path": "cold/01.png", "bytes": 3210, "label": "cold", "group": None},
    "IndexView": {
        "id": "photos",
        "content": _SHA,
        "model": "zfnet64",
        "dataset": {"name": "photos", "count": 24, "skipped": 0},
        "k": 9,
        "layers": {"conv5": 160},
        "links": {"self": "/api/v1/indexes/photos", "model": "/api/v1/models/zfnet64"},
    },
    "TopView": {
        "index": "photos",
        "unit": "conv5:7",
        "hits": [
            {
                "rank": 1,
                "image_id": 3,
                "path": "warm/06.png",
                "value": 4.25,
                "position": [2, 5],
                "label": "warm",
                "group": None,
            }
        ],
        "statistics": {"mean": 0.04, "fire_share": 0.11},
    },
    "ImageView": {
        "id": _IMAGE,
        "sha256": _SHA,
        "width": 640,
        "height": 480,
        "name": "photo.jpg",
        "created_at": 1767225600.0,
        "notes": [],
        "links": {"self": f"/api/v1/images/{_IMAGE}", "png": f"/api/v1/images/{_IMAGE}.png"},
    },
    "JobView": {
        "id": _JOB,
        "state": "running",
        "version": 4,
        "counts": _COUNTS,
        "rate": 2.5,
        "eta_s": 0.4,
        "request": {"model": "zfnet64", "method": "occlusion", "params": {"size": 16}},
        "fingerprints": {"network": _SHA, "code": _SHA, "inputs": _SHA},
        "error": None,
        "created_at": 1767225600.0,
        "started_at": 1767225600.5,
        "updated_at": 1767225600.9,
        "finished_at": None,
    },
    "ItemView": {
        "n": 0,
        "state": "succeeded",
        "custom_id": "a1",
        "image": _IMAGE,
        "dataset": None,
        "path": None,
        "attempt": 1,
        "facts": {"target": {"class": 2, "name": "cat"}},
        "pictures": {"heatmap": f"/api/v1/jobs/{_JOB}/items/0/heatmap.png"},
        "arrays": {"map": f"/api/v1/jobs/{_JOB}/items/0/map.npy"},
        "provenance": "zfnet64 9f86d081 · occlusion 16 px, stride 8",
        "sha256": _SHA,
        "elapsed_s": 0.41,
        "error": None,
        "finished_at": 1767225600.9,
    },
}

# status → (code, detail)
REFUSED: Mapping[int, tuple[str, str]] = {
    400: ("foreign_host", "Host 'evil.example' is not a name of this server."),
    401: ("sign_in", "Programs send 'Authorization: Bearer TOKEN'."),
    403: (
        "cross_site",
        "Requests that change something are taken from this site's own pages only.",
    ),
    404: ("not_found", f"Job '{_JOB}' is unknown."),
    408: ("too_slow", "The body came too slowly: under 16384 bytes a second."),
    409: ("not_finished", f"Job '{_JOB}' is running. Cancel it, or wait for its end."),
    413: ("body_too_large", "The body is over 104857600 bytes."),
    415: ("unsupported_format", "'notes.txt' is not an image that is taken."),
    416: ("no_such_range", "The file has 2048 bytes; Range asks beyond."),
    422: ("invalid", "/params/size: Input should be greater than or equal to 1."),
    429: ("too_many_jobs", "100 jobs are not finished yet; no more are taken. Try again later."),
    500: ("internal_error", "Something went wrong here; the log has the details."),
    503: ("database_busy", "The database is busy. Try again."),
    504: ("deadline", "Not done within 600 s."),
    507: ("storage_full", "The quota of stored files is used up."),
}
