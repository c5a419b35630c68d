"""The compatibility page: client by client, feature by feature, from a run. What stands around the table is written
by hand in net/KAFKA.md; the table stands between two marks."""

import clients
import features

PAGE = clients.ROOT / "net" / "KAFKA.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
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


def split():
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before, after


def is_current(results):
    before, after = split()
    return PAGE.read_text() == before + BEGIN + table(results) + END + after


def write(results):
    before, after = split()
    PAGE.write_text(before + BEGIN + table(results) + END + after)
