"""Records that show what could get lost: no keys, empty ones, null values, bytes that are no text, headers twice."""

from clients import encode

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
BEGUN_MS = 1_700_000_000_000


def record(key, value, headers=(), timestamp=None):
    pairs = [[name, encode(data)] for name, data in headers]
    return {"key": encode(key), "value": encode(value), "headers": pairs, "timestamp": timestamp}


def many(count, tag="r", start=0):
    """Keys in tens, a header on every third, a second between two."""
    return [
        record(
            f"key-{n % 10}".encode(),
            f"{tag}-{n}-".encode() + b"x" * (n % 200),
            [("n", str(n).encode()), ("raw", bytes(range(n % 32)))] if n % 3 == 0 else [],
            BEGUN_MS + n * 1000,
        )
        for n in range(start, start + count)
    ]


# Of `odd`, those that are text come first.
ODD_TEXT_COUNT = 5


def odd():
    """Of every kind one."""
    return [
        record(None, b"no key", [], BEGUN_MS),
        record(b"", b"empty key", [], BEGUN_MS + 1),
        record(b"empty value", b"", [], BEGUN_MS + 2),
        record(b"tombstone", None, [], BEGUN_MS + 3),
        record(b"header", "Grüße, 世界".encode(), [("Ünïcode", "é".encode()), ("empty", b"")], BEGUN_MS + 4),
        record(bytes(range(256)), bytes(reversed(range(256))), [("bin", bytes(range(256)))], BEGUN_MS + 5),
        record(b"large", bytes(n * 7 % 251 for n in range(100_000)), [], BEGUN_MS + 6),
    ]


def plain(count, tag="r"):
    """For clients that set neither headers nor timestamps."""
    return [record(f"key-{n % 10}".encode(), f"{tag}-{n}".encode()) for n in range(count)]


def same(sent, read):
    """What is read is what was sent, in order; times only where they were set. Returns what differs."""
    if len(sent) != len(read):
        return f"{len(read)} records instead of {len(sent)}"
    for place, (one, other) in enumerate(zip(sent, read)):
        for field in ("key", "value", "headers", "timestamp"):
            if field == "timestamp" and one[field] is None:
                continue
            if one[field] != other[field]:
                return f"record {place}: {field} {str(other[field])[:80]} instead of {str(one[field])[:80]}"
    offsets = [one["offset"] for one in read]
    if offsets != list(range(offsets[0], offsets[0] + len(offsets))) if offsets else False:
        return f"offsets are not dense: {offsets[:10]}"
    return None
