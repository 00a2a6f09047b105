"""The OpenAPI description is whole: words, examples and problems of every operation."""

from pathlib import Path
from typing import Any

import pytest

from deconvnet import methods
from deconvnet_app.api import schemas as api_schemas
from deconvnet_app.api.openapi_examples import EXAMPLES
from deconvnet_app.http.problems import Problem
from deconvnet_app.main import create_app
from deconvnet_app.services import job_views
from deconvnet_app.settings import Settings


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data_dir = tmp_path_factory.mktemp("spec")
    return create_app(Settings.model_validate({"data_dir": data_dir})).openapi()


@pytest.fixture(scope="module")
def operations(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """ "GET /path" → the operation."""
    return {
        f"{verb.upper()} {path}": operation
        for path, verbs in spec["paths"].items()
        for verb, operation in verbs.items()
    }


def test_every_operation_says_what_it_does_under_a_name_of_its_own(
    operations: dict[str, dict[str, Any]],
) -> None:
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
    identities = [one["operationId"] for one in operations.values()]
    assert len(set(identities)) == len(identities)


def test_every_problem_is_described_with_an_example_that_is_one(
    operations: dict[str, dict[str, Any]],
) -> None:
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            ((media_type, content),) = response["content"].items()
            assert media_type == "application/problem+json", name
            assert Problem.model_validate(content["example"]).status == int(status), name


def test_every_success_has_its_shape_and_an_example(
    spec: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    schemas = spec["components"]["schemas"]
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            assert response["description"], name
            assert "X-Request-Id" in response["headers"], name
            for content in response.get("content", {}).values():
                assert content["schema"], f"{name} {status}"
    for name, example in EXAMPLES.items():
        kind = getattr(api_schemas, name, None) or getattr(job_views, name)
        assert kind.model_validate(example), name
        assert schemas[name]["examples"] == [example]
    for name in (
        one for one in schemas if one.startswith("Paged_") and one != "Paged_dict_str__Any__"
    ):
        inside = schemas[name]["properties"]["items"]["items"]["$ref"].rsplit("/", 1)[1]
        assert inside in EXAMPLES, name


def test_an_example_of_a_job_of_every_method_is_given(spec: dict[str, Any]) -> None:
    jobs = {
        name: one for name, one in spec["components"]["schemas"].items() if name.endswith("Job")
    }
    assert len(jobs) >= 4
    for schema in jobs.values():
        (example,) = schema["examples"]
        job_views.request_of(methods.get(example["method"])).model_validate(example)
        assert example["model"] in schema["properties"]["model"]["enum"]


@pytest.mark.parametrize(
    ("operation", "status", "headers"),
    [
        ("POST /api/v1/jobs", "202", {"Location", "Retry-After", "ETag"}),
        ("POST /api/v1/jobs", "200", {"Location", "Preference-Applied", "ETag"}),
        ("GET /api/v1/jobs", "200", {"Link"}),
        ("GET /api/v1/jobs/{job}", "304", {"ETag"}),
        ("POST /api/v1/images", "201", {"Location"}),
        ("GET /api/v1/jobs/{job}/items/{n}/{name}.png", "206", {"ETag", "Content-Range"}),
        ("POST /api/v1/jobs", "429", {"Retry-After"}),
        ("GET /api/v1/models", "401", {"WWW-Authenticate"}),
    ],
)
def test_the_headers_of_answers_are_described(
    operations: dict[str, dict[str, Any]], operation: str, status: str, headers: set[str]
) -> None:
    assert headers <= set(operations[operation]["responses"][status]["headers"])


@pytest.mark.parametrize(
    ("operation", "header"),
    [
        ("POST /api/v1/jobs", "idempotency-key"),
        ("POST /api/v1/jobs", "prefer"),
        ("GET /api/v1/jobs/{job}", "if-none-match"),
        ("GET /api/v1/jobs/{job}/events", "last-event-id"),
        ("GET /api/v1/images/{image}.png", "range"),
        ("GET /api/v1/images/{image}.png", "if-range"),
    ],
)
def test_the_headers_of_requests_are_described(
    operations: dict[str, dict[str, Any]], operation: str, header: str
) -> None:
    found = {one["name"]: one for one in operations[operation]["parameters"]}
    assert found[header]["in"] == "header"
    assert found[header]["description"]


def test_the_token_is_asked_for_but_where_all_may_look(
    spec: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    assert spec["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert spec["security"] == [{"token": []}]
    open_to_all = [name for name, one in operations.items() if one.get("security") == []]
    assert open_to_all == ["GET /livez", "GET /readyz"]


def test_the_description_names_no_folder_of_this_machine(spec: dict[str, Any]) -> None:
    assert str(Path.cwd()) not in str(spec)
