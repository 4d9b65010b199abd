"""What stands in Redis beside pages."""


def flight_key(response_key: str) -> str:
    """Of the lease to compute a page, by the page's key."""
    return f"{response_key}:flight"


def bucket_key(caller: str) -> str:
    """Of the rate of a caller."""
    return f"analytics:limit:{caller}:rate"


def slots_key(caller: str) -> str:
    """Of the questions of a caller that are computed."""
    return f"analytics:limit:{caller}:slots"
