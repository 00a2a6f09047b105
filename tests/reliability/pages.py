"""How soon the demo's pages are there, with a warm worker.

Prints the seconds from an upload to its first heatmap and to its whole one (8-pixel occluder,
stride 4), a unit's page by a rule that is not computed yet, and the times of cached pages at a
steady 50 requests a second.

    python -m tests.reliability.pages --data-dir .demo
"""

import argparse
import asyncio
import io
import time
from pathlib import Path

import httpx2 as httpx
import numpy as np
from PIL import Image
from skimage import data

from deconvnet.address import Unit
from deconvnet_app.cli.demo import NETWORK, prepare
from deconvnet_app.urls import Urls, twin
from tests.reliability import serving

CACHED = (
    "/",
    Urls.model(NETWORK),
    Urls.layer(NETWORK, "conv5"),
    Urls.unit(NETWORK, Unit("conv5", 7)),
)


def photograph(number: int) -> bytes:
    """A photograph as PNG that differs a little for each number, so that nothing is known of it."""
    pixels = data.astronaut().copy()
    pixels[:8, :8] = number % 256
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


async def refine(client: httpx.AsyncClient, number: int) -> tuple[float, float]:
    """Seconds from an upload to its first map and to the whole one, as a browser gets them."""
    started = time.perf_counter()
    files = {"file": ("photo.png", photograph(number))}
    answer = await client.post(Urls.OCCLUSION, files=files, data={"model": NETWORK})
    place = answer.headers["location"].split("#")[0] + "&size=8&stride=4"
    first = 0.0
    while True:
        page = (await client.get(twin(place))).json()
        assert not page["problem"], page["problem"]
        if page["result"] and not first:
            first = time.perf_counter() - started
        if page["underway"]["said"] == "Complete":
            return first, time.perf_counter() - started
        await asyncio.sleep(0.3)  # as long as the page's script waits


async def timed(client: httpx.AsyncClient, address: str) -> float:
    """Seconds until a page is there."""
    started = time.perf_counter()
    (await client.get(address)).raise_for_status()
    return time.perf_counter() - started


async def steady(client: httpx.AsyncClient, rate: int, seconds: int) -> list[float]:
    """Times of cached pages, each asked for when it is due, whether the others are there or not."""
    started, asked = time.perf_counter(), []
    for number in range(rate * seconds):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        asked.append(asyncio.create_task(timed(client, CACHED[number % len(CACHED)])))
    return await asyncio.gather(*asked)


async def measure(served: serving.Served, runs: int, seconds: int) -> None:
    """Print the table."""
    headers = served.bearer | {"Accept": "text/html"}
    base = f"http://127.0.0.1:{served.port}"
    seed = int(time.time())
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as client:
        await refine(client, seed)  # warms the worker
        maps = [await refine(client, seed + n + 1) for n in range(runs)]
        units = [
            await timed(client, Urls.unit(NETWORK, Unit("conv5", (seed + n) % 100), rule="guided"))
            for n in range(runs)
        ]
        for address in CACHED:
            await timed(client, address)
        cached = await steady(client, 50, seconds)
    rows = {
        "upload to first map, median": np.median([first for first, _ in maps]),
        "upload to whole map, median": np.median([whole for _, whole in maps]),
        "unit's page not yet computed, median": np.median(units),
        "cached pages at 50 a second, p50": np.percentile(cached, 50),
        "cached pages at 50 a second, p99": np.percentile(cached, 99),
    }
    print("| page | seconds |\n| --- | --- |")
    for name, value in rows.items():
        print(f"| {name} | {value:.3f} |")


def main() -> None:
    """Build the demo where it is missing, serve it, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".demo"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    tiles, index = prepare(options.data_dir, quiet=True)
    settings = {"indexes": {"demo": str(index)}, "datasets": {"tiles": str(tiles)}}
    with serving.server(options.data_dir, settings=settings) as served:
        asyncio.run(measure(served, options.runs, options.seconds))


if __name__ == "__main__":
    main()
