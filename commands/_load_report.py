"""The report of `load` about one input."""

from services.ingest.input_file import InputFile
from services.ingest.json_paths import source_of
from services.ingest.loader import LoadReport, RejectedFile
from services.ingest.mapping.resolution import Resolution
from utils.time.local_times import ADJUSTMENT_TEXTS


class Summary:
    """Collects what a report says about one input."""

    def __init__(self, name: str, outcome: LoadReport, rejected: RejectedFile) -> None:
        self._name = name
        self._outcome = outcome
        self._rejected = rejected
        self._guesses: list[str] = []
        self._sources: dict[str, str] = {}

    def describe(self, file: InputFile, resolution: Resolution) -> None:
        """Add how the input is read, as far as that was guessed."""
        mapping = resolution.mapping
        paths = mapping.fields.get("occurred_at", ())
        if file.layout.description:
            self._guesses.append(f"read as {file.layout.form}, {file.layout.description}")
        if mapping.reading.description and paths:
            self._guesses.append(f"{source_of(paths[0])} read as {mapping.reading.description}")
        self._guesses += resolution.remarks
        self._sources = {
            name: ", ".join(map(source_of, each)) for name, each in mapping.fields.items()
        }

    def __call__(self) -> str:
        """The report; empty if nothing could be read."""
        self._rejected.close()
        outcome = self._outcome
        if outcome.failure and not outcome.read:
            return ""
        count = outcome.rejected.total()
        suppressed = f"suppressed {outcome.suppressed:,}, " if outcome.suppressed else ""
        lines = [
            f"{self._name}: read {outcome.read:,}, inserted {outcome.inserted:,}, "
            f"already there {outcome.present:,}, {suppressed}rejected {count:,}"
        ]
        lines += [f"  {guess}" for guess in self._guesses]
        lines += [
            f"  {rows:,} without {self._sources.get(field, field)}, the source of {field}"
            for field, rows in outcome.missing_sources.most_common()
        ]
        lines += [f"  {rows:,} {ADJUSTMENT_TEXTS[kind]}" for kind, rows in outcome.adjusted.items()]
        lines += [
            f"  {rows:,} rejected: {reason}" for reason, rows in outcome.rejected.most_common()
        ]
        if count and not self._rejected.failure:
            lines.append(f"  the rejected rows are in {self._rejected.path}")
        return "\n".join(lines)
