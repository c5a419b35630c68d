"""The compatibility page: client by client, feature by feature, from a run. What stands around its two tables is
written by hand in net/KAFKA.md; each table stands between two marks."""

import clients
import features

PAGE = clients.ROOT / "net" / "KAFKA.md"
REFUSED = "refused"
SIGNS = {"works": "yes", "none": "-", "fails": "NO"}


def versions():
    found = {}
    for line in (clients.HERE / "requirements.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        found[name] = version
    package = (clients.HERE / "js" / "package.json").read_text()
    found["kafkajs"] = package.split('"kafkajs": "')[1].split('"')[0]
    return found


def table(results):
    known = versions()
    heads = [f"{name} {known.get(name, '')}".strip() for name in clients.KAFKA_CLIENTS]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    notes = []
    for area, function in features.FEATURES:
        if area == REFUSED:
            continue
        row, cells = f"{area}.{function.__name__}", []
        for name in clients.KAFKA_CLIENTS:
            found = results.get((name, row), {"outcome": "none", "note": "not tried"})
            cell = SIGNS[found["outcome"]]
            if found["outcome"] == "none":
                if found["note"] not in notes:
                    notes.append(found["note"])
                cell += f" ({notes.index(found['note']) + 1})"
            cells.append(cell)
        lines.append(f"| {area}: {function.__doc__.splitlines()[0]} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"{place}. {note}" for place, note in enumerate(notes, 1)]
    return "\n".join(lines) + "\n"


def refused(results):
    """What is refused, and what each client that can ask for it raises then."""
    lines = ["| | raised by the client |", "|---|---|"]
    for area, function in features.FEATURES:
        if area != REFUSED:
            continue
        raised = {}
        for name in clients.KAFKA_CLIENTS:
            found = results.get((name, f"{area}.{function.__name__}"))
            if found and found["outcome"] != "none":
                note = found["note"] if found["outcome"] == "works" else "NO"
                raised.setdefault(note, []).append(name)
        cells = "; ".join(f"{note}: {', '.join(names)}" for note, names in sorted(raised.items(), key=by_most))
        lines.append(f"| {function.__doc__.splitlines()[0]} | {cells} |")
    return "\n".join(lines) + "\n"


def by_most(entry):
    return -len(entry[1]), entry[0]


def renewed(results):
    text = PAGE.read_text()
    for mark, made in (("table", table(results)), (REFUSED, refused(results))):
        begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->\n"
        before, rest = text.split(begin)
        text = before + begin + made + end + rest.split(end)[1]
    return text


def is_current(results):
    return PAGE.read_text() == renewed(results)


def write(results):
    PAGE.write_text(renewed(results))
