"""Answers made of counts, wherever those come from."""

from repo.answering.active_users import active_users
from repo.answering.event_counts import event_counts
from repo.answering.top_events import top_events
from repo.answering.user_events import user_events

__all__ = ["active_users", "event_counts", "top_events", "user_events"]
