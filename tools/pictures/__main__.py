"""Draws docs/pictures/*.png from a service under load: `python -m tools.pictures`."""

import argparse
import shutil
import tempfile
from pathlib import Path

from services.embedded import embedded_servers
from tests.dashboards.live_service import live_sources, make_demo_data, view_of
from tests.dashboards.panel_data import Sources
from tests.servers import Cluster
from tools.dashboards.__main__ import dashboards
from tools.pictures.draw import draw

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"

_SCRAPE_S = 5
_ZONE = "America/Los_Angeles"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--seconds", type=int, default=240)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="analytics-pictures-"))
    folder.chmod(0o711)
    with embedded_servers(folder) as endpoints:
        url = Cluster(endpoints.database_url).migrated_database()
        make_demo_data(url, options.events)
        with live_sources(
            url, endpoints.redis_url, options.seconds, scrape_s=_SCRAPE_S, pause_s=0.25
        ) as sources:
            for name in dashboards():
                draw_dashboard(name, sources, options.seconds)
    shutil.rmtree(folder, ignore_errors=True)


def draw_dashboard(name: str, sources: Sources, seconds: int) -> None:
    board = dashboards()[name]
    view = view_of(board, seconds, _ZONE, _SCRAPE_S)
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    answers = {
        panel["id"]: [sources.ask(target, view) for target in panel["targets"]] for panel in panels
    }
    slowest = max(result.seconds for results in answers.values() for result in results)
    PICTURES.mkdir(exist_ok=True)
    draw(board, answers, PICTURES / f"{name}.png")
    print(f"{name}: {len(panels)} panels, the slowest query took {1000 * slowest:.0f} ms")


if __name__ == "__main__":
    main()
