"""What the statements of all questions take."""

from typing import Any

from common.questions import Ranged
from utils.timebuckets import Range


def parameters(question: Ranged, asked: Range, **more: Any) -> dict[str, Any]:
    return {"start": asked.start, "end": asked.end, "names": question.names, **more}
