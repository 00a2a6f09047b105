"""The layer grid and the unit page: order, filters, evidence."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import deconvnet as dn
from deconvnet.address import Unit
from deconvnet_app.settings import Settings
from deconvnet_app.urls import Urls, twin
from tests.support.server import bearing


def _units(client: TestClient, **query: object) -> list[int]:
    told = client.get(twin(Urls.layer("tiny", "conv2", **query))).json()
    return [unit["channel"] for unit in told["units"]]


def test_units_come_in_the_order_asked_for(pages: TestClient, tiny_index: Path) -> None:
    index = dn.open_index(tiny_index)
    strongest = [index.stats(f"conv2:{c}").max for c in range(6)]
    assert _units(pages) == list(range(6))
    assert _units(pages, sort="activation") == np.argsort(-np.array(strongest)).tolist()
    shares = [index.stats(f"conv2:{c}").fire_share for c in _units(pages, sort="often")]
    assert shares == sorted(shares, reverse=True)


def test_units_are_filtered_by_life_class_and_text(pages: TestClient, tiny_index: Path) -> None:
    index = dn.open_index(tiny_index)
    dead = [c for c in range(6) if index.stats(f"conv2:{c}").dead]
    warm = [c for c in range(6) if index.stats(f"conv2:{c}").best_class == "warm"]
    assert _units(pages, only="dead") == dead
    assert _units(pages, only="alive") == [c for c in range(6) if c not in dead]
    assert _units(pages, label="warm") == warm
    assert _units(pages, q="WAR") == warm
    assert _units(pages, q="3") == [3]
    assert _units(pages, q="zebra") == []
    assert "No unit of conv2 matches" in pages.get(Urls.layer("tiny", "conv2", q="zebra")).text


def test_the_controls_show_what_the_address_says(pages: TestClient) -> None:
    text = pages.get(Urls.layer("tiny", "conv2", sort="sparse", q="warm", view="patches")).text
    assert '<option value="sparse" selected>' in text
    assert 'value="warm"' in text
    assert re.search(r'<ul class="grid[^"]* patches"', text)


def test_a_bad_sort_is_refused_with_a_page(pages: TestClient) -> None:
    answer = pages.get(Urls.layer("tiny", "conv2", sort="size"))
    assert answer.status_code == 422
    assert "sort" in answer.text


def test_a_units_pairs_are_its_hits_in_order(pages: TestClient, tiny_index: Path) -> None:
    index = dn.open_index(tiny_index)
    channel = int(np.argmax(index.layer_stats("conv2").top))
    hits = index.top(f"conv2:{channel}")
    told = pages.get(twin(Urls.unit("tiny", Unit("conv2", channel)))).json()
    assert [pair["path"] for pair in told["pairs"]] == [hit.path for hit in hits]
    assert [pair["rank"] for pair in told["pairs"]] == list(range(1, 10))
    assert told["nine"]
    assert told["provenance"].startswith("tiny")
    side = index.tile("conv2")
    for place, pair in enumerate(told["pairs"]):
        row, column = divmod(place, 3)
        assert round(pair["projection"]["x"]) == column * side
        assert round(pair["patch"]["x"]) == (3 + column) * side
        assert round(pair["patch"]["y"]) == row * side


def test_neighbouring_units_and_layers_are_linked(pages: TestClient) -> None:
    told = pages.get(twin(Urls.unit("tiny", Unit("conv2", 5)))).json()
    assert told["previous"]["label"] == "conv2:4"
    assert told["following"] is None
    assert told["layer_previous"]["label"] == "conv1:3"
    assert told["layer_following"] is None


def test_a_position_in_the_address_leads_to_the_units_page(pages: TestClient) -> None:
    answer = pages.get("/models/tiny/units/conv2:3@1,2", follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"] == Urls.unit("tiny", Unit("conv2", 3))


def _alive(index: dn.ActivationIndex) -> Unit:
    return Unit("conv2", int(np.argmax(index.layer_stats("conv2").top)))


@pytest.mark.parametrize("rule", ["deconv", "guided", "gradient"])
def test_rules_are_shown_on_one_scale(pages: TestClient, tiny_index: Path, rule: str) -> None:
    unit = _alive(dn.open_index(tiny_index))
    told = pages.get(twin(Urls.unit("tiny", unit, rule=rule))).json()
    assert told["waiting"] == ""
    limits = {
        re.search(
            r"scale ±(\S+)",
            pages.get(twin(Urls.unit("tiny", unit, rule=other))).json()["provenance"],
        )[1]
        for other in ("deconv", "guided", "gradient")
    }
    assert len(limits) == 1
    assert f"rule {rule}" in told["provenance"]


def test_one_visit_computes_the_rules_that_are_one_step_away(
    pages: TestClient, tiny_index: Path
) -> None:
    unit = _alive(dn.open_index(tiny_index))
    results = pages.app.state.deconv.compute.cache.root
    pages.get(Urls.unit("tiny", unit, rule="guided"))
    known = sorted(results.rglob("*.json"))
    for rule in ("deconv", "gradient"):
        told = pages.get(twin(Urls.unit("tiny", unit, rule=rule))).json()
        assert all(pair["projection"] for pair in told["pairs"])
    assert sorted(results.rglob("*.json")) == known
    assert len(known) == 1


def test_own_scale_deconv_is_what_the_index_drew(pages: TestClient, tiny_index: Path) -> None:
    index = dn.open_index(tiny_index)
    unit = _alive(index)
    told = pages.get(twin(Urls.unit("tiny", unit, rule="deconv", contrast="own"))).json()
    made = pages.get(told["pairs"][0]["projection"]["src"]).content
    sheet = np.asarray(Image.open(io.BytesIO(made)))
    drawn = np.asarray(Image.open(index.sprite("conv2", unit.channel)))[:, : sheet.shape[1]]
    # One grey level: the index and the page round the same numbers after other sums.
    assert np.abs(sheet.astype(int) - drawn.astype(int)).max() <= 1


@pytest.fixture
def smooth(
    tiny_settings: Callable[..., Settings], tiny_model: str, image_folder: Path, tmp_path: Path
) -> Iterator[TestClient]:
    """Pages of a network whose second layer ends in a SiLU, which the deconvnet has no rule for."""
    text = Path(tiny_model.removesuffix(":build")).read_text()
    path = tmp_path / "smooth.py"
    path.write_text(text.replace("self.relu2 = nn.ReLU()", "self.relu2 = nn.SiLU()"))
    net = dn.load(f"{path}:build", weights=None, device="cpu")
    dn.build_index(net, image_folder, tmp_path / "index", rule="gradient", progress=False)
    changes = {"models": {"tiny": f"{path}:build"}, "indexes": {"smooth": tmp_path / "index"}}
    settings = tiny_settings(**changes, auth=True)
    with bearing(settings, Accept="text/html,*/*;q=0.8") as client:
        yield client


def test_only_the_rules_that_a_layer_has_are_offered(smooth: TestClient) -> None:
    told = smooth.get(twin(Urls.unit("tiny", Unit("conv2", 1)))).json()
    assert [rule["label"] for rule in told["rules"]] == ["Gradient"]
    assert told["rules"][0]["current"]
    assert 'rule="gradient"' in told["python"]
    again = smooth.get(twin(Urls.unit("tiny", Unit("conv2", 1), rule="gradient"))).json()
    assert all(pair["projection"] for pair in again["pairs"])
    below = smooth.get(twin(Urls.unit("tiny", Unit("conv1", 1)))).json()
    assert [rule["label"] for rule in below["rules"]] == ["Deconv", "Guided", "Gradient"]
    refused = smooth.get(twin(Urls.unit("tiny", Unit("conv2", 1), rule="deconv"))).json()
    assert "Take gradient" in refused["waiting"]


def test_the_unit_under_an_occluder_is_projected_by_a_rule_that_it_has(
    smooth: TestClient,
) -> None:
    told = smooth.get(twin(Urls.occlusion(model="tiny", image="smooth/1"))).json()
    assert told["problem"] == ""
    (panel,) = (p for p in told["result"]["panels"] if p["name"] == "projection")
    assert "by the rule gradient" in panel["picture"]["alt"]
