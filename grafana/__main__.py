"""python -m grafana"""

import json
from pathlib import Path

from grafana import analytics, business, data, service
from grafana.targets import Json

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, Json]:
    """By the name of their file."""
    return {
        "service": service.dashboard(),
        "analytics": analytics.dashboard(),
        "data": data.dashboard(),
        "business": business.dashboard(),
    }


def written(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for name, dashboard in dashboards().items():
        (FOLDER / f"{name}.json").write_text(written(dashboard))


if __name__ == "__main__":
    main()
