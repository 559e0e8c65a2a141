"""The name in a Host header."""


def name_of_host(host: str) -> str:
    """Return the host without its port, an IPv6 address without its brackets; empty when it is malformed."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name if not rest or rest.startswith(":") else ""
    name, _, port = host.partition(":")
    return name if not port or port.isdecimal() else ""
