"""Answers computed from the events themselves: right for every question, and the slow way."""

from repo.raw.active_users import active_users
from repo.raw.event_counts import event_counts
from repo.raw.top_events import top_events
from repo.raw.user_events import user_events

__all__ = ["active_users", "event_counts", "top_events", "user_events"]
