"""The name in a Host header, and the other way round."""


def name_of_host(host: str) -> str:
    """Return the host without its port, an IPv6 address without its brackets; empty when it is malformed."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name if not rest or rest.startswith(":") else ""
    name, _, port = host.partition(":")
    return name if not port or port.isdecimal() else ""


def authority(host: str, port: int) -> str:
    """Write a host and a port as they stand in an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
