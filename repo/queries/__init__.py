"""Answers made of counts, wherever those come from."""

from repo.queries.active_users import active_users
from repo.queries.event_counts import event_counts
from repo.queries.top_events import top_events
from repo.queries.user_events import user_events

__all__ = ["active_users", "event_counts", "top_events", "user_events"]
