"""Tells requests that a page of another origin has a browser make from all others."""


def is_foreign(host: str, origin: str | None, site: str | None) -> bool:
    """True if a browser says that a page of another origin has made it send this. Pure.

    `host`, `origin` and `site` are the headers Host, Origin and Sec-Fetch-Site; only browsers send the last two.
    """
    if site in {"same-origin", "none"}:
        return False
    if site is not None:
        return True
    return origin is not None and origin.partition("://")[2].lower() != host.lower()
