"""What scripts add: keys, live filters, one crosshair; what pages keep: place, width, contrast."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from deconvnet.address import Unit
from deconvnet_app.urls import Urls

Open = Callable[..., Page]

LAYER = Urls.layer("small", "conv2")
UNIT = Urls.unit("small", Unit("conv2", 3))
LAB = Urls.occlusion(model="small", image="pictures/1", size=8, stride=4)
ADDRESSES = [
    "/", Urls.model("small"), LAYER, UNIT, Urls.unit("small", Unit("conv2", 3), rule="guided"),
    Urls.filters("small", "conv1"), Urls.filters("small", "conv2"), Urls.occlusion(), LAB,
    Urls.jobs(), Urls.REST,
]  # fmt: skip

SHIFTS = """() => new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(sum), 400);
})"""


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_page_is_wider_than_its_window(open_page: Open, address: str, width: int) -> None:
    page = open_page(address, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("address", ["/", LAYER, UNIT])
def test_pictures_arriving_move_nothing(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_load_state("networkidle")
    assert page.evaluate(SHIFTS) < 0.02


def test_a_tile_turns_over_on_hover_and_on_focus(open_page: Open) -> None:
    page = open_page(LAYER, reduced_motion="reduce")
    tile = page.locator("#grid .tile:not(.is-dead)").first
    patch = tile.locator(".patch")
    expect(patch).to_have_css("opacity", "0")
    tile.hover()
    expect(patch).to_have_css("opacity", "1")
    page.mouse.move(0, 0)
    expect(patch).to_have_css("opacity", "0")
    page.keyboard.press("Tab")
    tile.focus()
    expect(patch).to_have_css("opacity", "1")


def test_the_grid_is_sorted_and_searched_in_place(open_page: Open) -> None:
    page = open_page(LAYER)
    page.evaluate("window.mine = true")
    page.locator("#sort").select_option("activation")
    expect(page).to_have_url(re.compile("sort=activation"))
    page.locator("#q").press_sequentially("warm")
    expect(page).to_have_url(re.compile("q=warm"))
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#q")).to_have_value("warm")
    expect(page.locator("#count")).to_contain_text("of 40")
    page.go_back()
    expect(page.locator("#count")).to_have_text("40 units")
    assert page.evaluate("window.mine")


def test_keys_walk_the_grid_and_turn_it_over(open_page: Open) -> None:
    page = open_page(LAYER)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    expect(page.locator("#grid .tile").nth(1)).to_be_focused()
    page.keyboard.press("p")
    expect(page.locator("#grid")).to_have_class(re.compile("patches"))
    expect(page).to_have_url(re.compile("view=patches"))
    page.keyboard.press("p")
    expect(page).not_to_have_url(re.compile("view=patches"))
    page.keyboard.press("[")
    expect(page.get_by_role("heading", level=1)).to_contain_text("conv1")


def test_keys_walk_over_units_and_layers(open_page: Open) -> None:
    page = open_page(UNIT)
    heading = page.get_by_role("heading", level=1)
    for key, unit in (("j", "conv2:4"), ("k", "conv2:3"), ("[", "conv1:3")):
        page.wait_for_load_state("load")  # the page's scripts have run by then
        page.keyboard.press(key)
        expect(heading).to_contain_text(unit)


def test_slash_searches_and_typing_is_left_alone(open_page: Open) -> None:
    page = open_page(UNIT)
    page.keyboard.press("/")
    expect(page.locator("#jump")).to_be_focused()
    page.keyboard.type("conv1:5jk[]")
    expect(page.locator("#jump")).to_have_value("conv1:5jk[]")
    page.locator("#jump").fill("conv1:5")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("conv1:5")


def test_the_help_opens_on_a_key_and_can_switch_keys_off(open_page: Open) -> None:
    page = open_page(UNIT)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Single-key shortcuts").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    page.keyboard.press("j")
    page.reload()
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_contain_text("conv2:3")


def test_a_pairs_halves_light_up_together(open_page: Open) -> None:
    page = open_page(UNIT)
    pair = page.locator(".pairs > li").nth(4)
    for half in (".pair-proj", ".pair-patch"):
        pair.locator(half).hover()
        for crop in pair.locator(".crop").all():
            expect(crop).to_have_css("outline-style", "solid")


def test_one_crosshair_crosses_every_map(open_page: Open) -> None:
    page = open_page(LAB)
    maps = page.locator(".panel-pic")
    maps.nth(1).hover(position={"x": 40, "y": 60})
    expect(page.locator(".cross:not([hidden])")).to_have_count(maps.count())
    readout = page.locator("#readout")
    expect(readout).to_contain_text("Occluder at y")
    before = readout.inner_text()
    maps.nth(0).focus()
    page.keyboard.press("ArrowDown")
    expect(readout).not_to_have_text(before)


def test_a_colour_scheme_is_kept(open_page: Open) -> None:
    page = open_page("/")
    button = page.get_by_role("button", name="Colour scheme")
    button.click()
    button.click()
    expect(button).to_have_accessible_name("Colour scheme: dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-scheme", "dark")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground))) < 40


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest(".hidden, .skip, option, svg, .stage.bare")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.add(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return [...faint];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_text_stands_out_from_its_ground(open_page: Open, address: str, scheme: str) -> None:
    page = open_page(address, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
