"""Keys in Redis other than those of cached responses."""


def flight_key(response_key: str) -> str:
    """The key of the lease to compute a response, from the key of the response."""
    return f"{response_key}:flight"


def bucket_key(caller: str) -> str:
    """The key of the rate limit of a caller."""
    return f"analytics:limit:{caller}:rate"


def slots_key(caller: str) -> str:
    """The key of the concurrency slots of a caller."""
    return f"analytics:limit:{caller}:slots"
