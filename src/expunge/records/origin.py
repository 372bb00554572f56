"""Where a request comes from: who asked, on what ground, when, and by when it is to be met."""

from __future__ import annotations

import datetime

from expunge.records.base import Record


class Origin(Record):
    """Where a request comes from, as far as it was said. It may name persons: copies to hand out leave it out.

    Attributes:
        who: who asked. when: the day on which it was asked.
        evidence: what the request rests on (its legal basis), or where that is written down.
        due: the day by which it is to be met.
    """

    who: str = ""
    when: datetime.date | None = None
    evidence: str = ""
    due: datetime.date | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What was said, for a person; words to text."""
        told = {"Requested by": self.who, "Legal basis": self.evidence, "Requested on": self.when, "Due on": self.due}
        return {what: str(value) for what, value in told.items() if value}
