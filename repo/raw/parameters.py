"""What the statements of all questions take."""

from typing import Any

from common.questions import Ranged
from config.database import Cursor
from utils.timebuckets import Range


def parameters(cur: Cursor, question: Ranged, asked: Range, **more: Any) -> dict[str, Any]:
    """What has not happened yet is not counted, so that buckets add up to their total."""
    over = asked.until(cur.as_of)
    return {"start": over.start, "end": over.end, "names": question.names, **more}
