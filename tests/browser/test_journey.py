"""From the start page to a heatmap, as a person goes; with JavaScript and without."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from deconvnet_app.urls import Urls

Open = Callable[..., Page]


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_home_to_model_to_layer_to_unit_to_upload_to_heatmap(
    open_page: Open, photo: Path, script: bool
) -> None:
    page = open_page("/", java_script_enabled=script)
    page.get_by_role("link", name="Browse small").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("small")
    page.locator(".stage-link", has_text="conv2").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("conv2")
    expect(page.locator("#grid .tile")).to_have_count(40)
    tile = page.locator("#grid .tile:not(.is-dead)").first
    number = tile.locator("b").inner_text()
    tile.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"conv2:{number}")
    expect(page.locator(".pairs > li")).to_have_count(9)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Occlusion").click()
    page.wait_for_load_state()
    page.locator("#file").set_input_files(photo)
    if not script:
        page.get_by_role("button", name="Upload").click()
    heatmap = page.locator('.panel-pic[data-name="heatmap"] img')
    expect(heatmap).to_be_visible()
    assert heatmap.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    expect(page.locator(".legend li").first).to_be_visible()
    page.locator("#f-size").fill("12")
    page.locator("#f-stride").fill("6")
    page.get_by_role("button", name="Occlude").click()
    page.wait_for_url("**size=12&stride=6**")
    while not script and page.get_by_role("link", name="Look again").count():
        page.get_by_role("link", name="Look again").click()
    expect(page.locator("table.matrix").first.locator("tbody tr")).to_have_count(7)


# Everything that the line above the maps has said, in order.
LISTEN = """addEventListener("DOMContentLoaded", () => {
  window.heard = [];
  const hear = () => {
    const said = document.querySelector(".underway b")?.textContent;
    if (said && said !== window.heard.at(-1)) window.heard.push(said);
  };
  hear();
  new MutationObserver(hear).observe(document.body, { childList: true, subtree: true });
})"""


def test_a_map_is_coarse_at_first_and_refined_in_place(open_page: Open, photo: Path) -> None:
    page = open_page(Urls.occlusion(model="wide"))
    page.context.add_init_script(LISTEN)
    page.locator("#file").set_input_files(photo)
    page.wait_for_url("**image=img_**")
    page.locator("#f-size").fill("16")
    page.locator("#f-stride").fill("1")
    page.locator("#f-stride").press("Tab")
    page.wait_for_url("**stride=1**")
    coarse = page.locator('#occlusion-main[data-said^="Coarse, 1 of 16 positions"]')
    expect(coarse).to_be_visible()
    expect(page.locator(".provenance").first).to_contain_text("coarse, 1 of 16 positions")
    expect(page.locator("#occlusion-main .chips")).to_have_count(0)
    page.evaluate("window.mine = true")
    maps = page.locator(".panel-pic")
    maps.first.focus()
    page.locator("#table-1 summary").click()
    expect(page.locator(".underway b")).to_have_text("Complete")
    assert page.evaluate("window.mine")
    assert page.locator("#table-1").get_attribute("open") is not None
    expect(page.locator("#said")).to_have_text("Complete")
    expect(page.locator("#readout")).to_contain_text("Occluder at y")
    expect(page.locator(".panel-pic")).to_have_count(5)
    expect(page.locator("#occlusion-main .chips a")).to_have_count(8)
    expect(page.locator("#table-1 tbody tr")).to_have_count(79)
    heard = page.evaluate("window.heard")
    assert heard[-1] == "Complete"
    assert any(said.startswith("Coarse, 1 of 16 positions") for said in heard)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_refining_can_be_stopped_and_gone_on_with(open_page: Open, script: bool) -> None:
    size = 15 + script  # not a map that is there already
    address = Urls.occlusion(model="wide", image="pictures/2", size=size, stride=1)
    page = open_page(address, java_script_enabled=script)
    while not script and not page.locator("#panels").count():
        page.get_by_role("link", name="Look again").click()
    expect(page.locator("#map-heatmap")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".underway b")).to_contain_text("stopped")
    expect(page.locator("#map-heatmap")).to_be_visible()
    page.get_by_role("link", name="Go on").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".underway b")).to_contain_text("topped")


def test_a_job_is_submitted_followed_and_finished(open_page: Open) -> None:
    page = open_page(Urls.jobs(method="occlusion"))
    page.locator("#f-size").fill("12")
    page.locator("#f-stride").fill("6")
    page.locator("#job-limit").fill("2")
    curl = page.locator("#twin-curl")
    expect(curl).to_contain_text('"size": 12')
    expect(curl).to_contain_text('"limit": 2')
    expect(page.locator("#twin-python")).to_contain_text('"stride": 6')
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".page-head .state")).to_have_text("succeeded", timeout=90_000)
    expect(page.locator(".items img")).to_have_count(2)


def test_a_jobs_cancel_stays_under_the_pointer_while_its_numbers_change(open_page: Open) -> None:
    page = open_page(Urls.jobs(method="occlusion"))
    page.locator("#f-size").fill("1")
    page.locator("#f-stride").fill("1")
    page.get_by_role("button", name="Submit").click()
    button = page.get_by_role("button", name="Cancel").element_handle()
    expect(page.locator(".items img").first).to_be_visible(timeout=90_000)
    assert button.evaluate("button => button.isConnected")
    button.click()
    expect(page.locator(".page-head .state")).to_have_text("cancelled", timeout=30_000)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_an_uploaded_text_file_is_refused_with_a_reason(open_page: Open, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.png"
    wrong.write_text("not a picture")
    page = open_page(Urls.occlusion(), java_script_enabled=False)
    page.locator("#file").set_input_files(wrong)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("not an image")
