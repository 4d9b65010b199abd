"""Write `grafana/dashboards/*.json`: `python -m tools.dashboards`."""

import json
from pathlib import Path

from tools.dashboards import analytics, business, data, service
from tools.dashboards.queries import Json

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"


def dashboards() -> dict[str, Json]:
    """All dashboards, by the name of their file without its suffix."""
    return {
        "service": service.dashboard(),
        "analytics": analytics.dashboard(),
        "data": data.dashboard(),
        "business": business.dashboard(),
    }


def to_json(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for name, dashboard in dashboards().items():
        (FOLDER / f"{name}.json").write_text(to_json(dashboard))


if __name__ == "__main__":
    main()
