#!/usr/bin/env python3
"""Real Kafka clients against the real broker. See tests/kafka/README.md.

    tests/kafka/run.py                              everything; the tables are compared with net/KAFKA.md
    tests/kafka/run.py --page                       the same, and the tables are written there
    tests/kafka/run.py --clients kafkajs,kcat --features groups.,produce.codec_zstd --scenarios chat
"""

import argparse
import json
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "suite"))

import clients  # noqa: E402
import features  # noqa: E402
import page  # noqa: E402
import scenarios  # noqa: E402

ATTEMPT_S = 240


def set_up():
    """Installs the clients below target/, once for each list of versions."""
    made, here = clients.MADE, clients.HERE
    for part in ("log", "data", "js"):
        (made / part).mkdir(parents=True, exist_ok=True)
    wanted = (here / "requirements.txt").read_text()
    stamp = made / "venv" / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", made / "venv"], check=True)
        subprocess.run([clients.PYTHON, "-m", "pip", "install", "-q", "-r", here / "requirements.txt"], check=True)
        stamp.write_text(wanted)
    locked = (here / "js" / "package-lock.json").read_text()
    stamp = made / "js" / "installed"
    if not stamp.exists() or stamp.read_text() != locked:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            (made / "js" / name).write_text((here / "js" / name).read_text())
        subprocess.run(["npm", "ci", "--silent"], cwd=made / "js", check=True)
        stamp.write_text(locked)


def open_client(name, server, helper=None):
    client = clients.Client(name, server)
    client.helper = helper or client
    client.another = lambda: open_client(name, server, helper)
    return client


def attempt(name, server, area, function):
    """One feature with a client process of its own: what became of it and what there is to say."""
    helper = open_client("confluent-kafka", server)
    client = open_client(name, server, helper)
    watchdog = threading.Timer(ATTEMPT_S, client.kill)
    watchdog.start()
    try:
        note = function(client)
        return "works", note if isinstance(note, str) else ""
    except clients.Unsupported as why:
        return "none", str(why)
    except Exception as error:
        return "fails", f"{type(error).__name__}: {error}\n{traceback.format_exc()}{getattr(error, 'trace', '')}"
    finally:
        watchdog.cancel()
        client.kill()
        helper.kill()


def try_client(name, server, wanted, results):
    for area, function in features.FEATURES:
        row = f"{area}.{function.__name__}"
        if wanted and not any(part in row for part in wanted):
            continue
        begun = time.monotonic()
        outcome, note = attempt(name, server, area, function)
        results[name, row] = {"outcome": outcome, "note": note, "seconds": round(time.monotonic() - begun, 1)}
        first = note.splitlines()[0] if note else ""
        print(f"{outcome:6} {name:16} {row:32} {results[name, row]['seconds']:6} s  {first[:150]}", flush=True)


def try_scenarios(broker, wanted, results):
    for function in scenarios.SCENARIOS:
        if wanted is not None and not any(part in function.__name__ for part in wanted):
            continue
        begun = time.monotonic()
        try:
            function(broker)
            outcome, note = "works", ""
        except Exception as error:
            outcome, note = "fails", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        seconds = round(time.monotonic() - begun, 1)
        results["scenario", function.__name__] = {"outcome": outcome, "note": note, "seconds": seconds}
        first = note.splitlines()[0] if note else ""
        print(f"{outcome:6} {'':16} {function.__name__:32} {seconds:6} s  {first[:300]}", flush=True)


def parts(text):
    return [part for part in text.split(",") if part]


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--clients", type=parts, default=clients.KAFKA_CLIENTS)
    asked.add_argument("--features", type=parts, default=[], help="parts of area.name; '-' for none")
    asked.add_argument("--scenarios", type=parts, help="parts of names; '-' for none")
    asked.add_argument("--page", action="store_true")
    asked = asked.parse_args()
    set_up()
    results = {}
    with clients.Broker("main", **clients.QUICK_GROUPS) as broker:
        together = [
            threading.Thread(target=try_client, args=(name, broker.address, asked.features, results))
            for name in asked.clients
        ]
        for one in together:
            one.start()
        for one in together:
            one.join()
        try_scenarios(broker, asked.scenarios, results)
        if broker.stop() != 0:
            results["scenario", "clean_stop"] = {"outcome": "fails", "note": "the broker did not end well", "seconds": 0}
    flat = [{"client": name, "feature": row, **result} for (name, row), result in sorted(results.items())]
    (clients.MADE / "results.json").write_text(json.dumps(flat, indent=1))
    failed = [one for one in flat if one["outcome"] == "fails"]
    for one in failed:
        print(f"\n== {one['client']} {one['feature']}\n{one['note']}")
    print(f"kafka clients: {sum(one['outcome'] == 'works' for one in flat)} work, {len(failed)} fail, of {len(flat)}")
    whole = not asked.features and asked.scenarios is None and asked.clients == clients.KAFKA_CLIENTS
    if asked.page:
        page.write(results)
    elif whole and not failed and not page.is_current(results):
        print("net/KAFKA.md is not what this run gives: write it anew with tests/kafka/run.py --page")
        return 1
    return 1 if failed else 0


sys.exit(main())
