"""One client as a process: a JSON request a line in, a JSON answer a line out.

A driver is a class whose methods are the operations of tests/kafka/README.md. What a client cannot do it says with
`Unsupported`; anything else that is raised is a failure. Bytes travel as base64, absent as null.
"""

import base64
import json
import sys
import traceback


class Unsupported(Exception):
    """The client has no such thing."""


def to_bytes(text):
    return None if text is None else base64.b64decode(text)


def to_text(data):
    return None if data is None else base64.b64encode(data).decode()


def record(partition, offset, key, value, headers, timestamp):
    pairs = [[name, to_text(data)] for name, data in (headers or [])]
    return {
        "partition": partition,
        "offset": offset,
        "key": to_text(key),
        "value": to_text(value),
        "headers": pairs,
        "timestamp": timestamp,
    }


def answer(driver, request):
    operation = getattr(driver, request.pop("op"), None)
    if operation is None:
        return {"unsupported": "no such operation"}
    try:
        return {"ok": operation(**request)}
    except Unsupported as why:
        return {"unsupported": str(why)}
    except Exception as error:  # a failure of any kind is the answer
        return {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def main(make):
    out, sys.stdout = sys.stdout, sys.stderr
    driver = make(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(answer(driver, json.loads(line))), file=out, flush=True)
