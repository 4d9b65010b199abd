"""python -m tests.dashboards: draws docs/pictures/*.png, of a service that is at work meanwhile."""

import argparse
import shutil
import tempfile
from pathlib import Path

from grafana.__main__ import dashboards
from services.embedded import embedded_servers
from tests.dashboards.asking import Sources
from tests.dashboards.draw import draw
from tests.dashboards.live import chosen, looking, made
from tests.servers import Cluster

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"

_SCRAPE_S = 5
_ZONE = "America/Los_Angeles"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--seconds", type=int, default=240)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="analytics-pictures-"))
    folder.chmod(0o711)
    with embedded_servers(folder) as endpoints:
        url = Cluster(endpoints.database_url).migrated_database()
        made(url, given.events)
        with looking(
            url, endpoints.redis_url, given.seconds, scrape_s=_SCRAPE_S, pause_s=0.25
        ) as sources:
            for name in dashboards():
                picture(name, sources, given.seconds)
    shutil.rmtree(folder, ignore_errors=True)


def picture(name: str, sources: Sources, seconds: int) -> None:
    board = dashboards()[name]
    moment = chosen(board, seconds, _ZONE, _SCRAPE_S)
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    answers = {
        panel["id"]: [sources.ask(target, moment) for target in panel["targets"]]
        for panel in panels
    }
    slowest = max(result.seconds for results in answers.values() for result in results)
    PICTURES.mkdir(exist_ok=True)
    draw(board, answers, PICTURES / f"{name}.png")
    print(f"{name}: {len(panels)} panels, the slowest query took {1000 * slowest:.0f} ms")


if __name__ == "__main__":
    main()
