"""From runs to the table: medians over rounds, and ratios of runs of the same round and pair."""

from statistics import median

FIGURES = ("records_per_second", "cpu_seconds_per_million", "written_bytes_per_million", "p50_us", "p99_us", "p999_us")
BASE = "millstream native"
OURS = "millstream"
# What is to be shown of a scenario, by how its name begins: by which figure, and whether a peer's is to be above ours.
TO_SHOW = {
    "batched": {"CPU": ("cpu_by_ours", True), "rate": ("records_per_second_by_ours", False)},
    "single": {"CPU": ("cpu_by_ours", True), "rate": ("records_per_second_by_ours", False)},
    "common rate": {"p99.9": ("p999_by_ours", True)},
}


def medians(runs, scenario, figure):
    """By side."""
    by_side = {}
    for run in runs:
        if run["scenario"] == scenario and run[figure] is not None:
            by_side.setdefault(run["side"], []).append(run[figure])
    return {side: median(values) for side, values in by_side.items()}


def ratio(runs, scenario, side, figure, base):
    """The median of what each round shows: `side` by `base` in the same pair and round; None without such rounds."""
    placed = {}
    for run in runs:
        if run["scenario"] == scenario and run[figure]:
            placed[run["pair"], run["round"], run["side"]] = run[figure]
    ratios = [
        value / placed[pair, number, base]
        for (pair, number, name), value in placed.items()
        if name == side and (pair, number, base) in placed
    ]
    return median(ratios) if ratios else None


def rows(runs):
    """One per scenario and side, in the order they were run."""
    order = dict.fromkeys((run["scenario"], run["side"]) for run in runs)
    return [row(runs, scenario, side) for scenario, side in order]


def row(runs, scenario, side):
    own = [run for run in runs if (run["scenario"], run["side"]) == (scenario, side)]
    figures = {}
    for figure in FIGURES:
        values = [run[figure] for run in own if run[figure] is not None]
        figures[figure] = median(values) if values else None
    # The least that any round was given.
    durability = sorted({run["durability"] for run in own})
    found = {
        "scenario": scenario,
        "side": side,
        "rounds": len({run["round"] for run in own}),
        "runs": len(own),
        "durability": " / ".join(durability),
        "durable": all(is_durable(text) for text in durability),
        "repeats": sum(run["repeats"] for run in own),
        "system": own[-1]["system"]["system"],
        "client": own[-1]["system"]["client"],
        "failed": sum(run["failed"] for run in own),
        "stalled": sum(run["stalled"] for run in own),
        "others_cores": median(run["others_cores"] for run in own),
        "steal_cores": median(run["steal_cores"] for run in own),
        "records_per_second_by_ours": ratio(runs, scenario, side, "records_per_second", BASE),
        "cpu_by_ours": ratio(runs, scenario, side, "cpu_seconds_per_million", BASE),
        "p50_by_ours": ratio(runs, scenario, side, "p50_us", BASE),
        "p999_by_ours": ratio(runs, scenario, side, "p999_us", BASE),
        **figures,
    }
    return {**found, "met": {} if side.startswith(OURS) else verdicts(found)}


def is_durable(durability):
    """Whether an answer that meant this came after the disk had the record."""
    return "disk" in durability.lower() and "page cache" not in durability


def verdicts(row):
    """By what ours are better than this peer, of what is to be shown; without a figure nothing is."""
    kind = next((kind for kind in TO_SHOW if row["scenario"].startswith(kind)), None)
    found = {}
    for name, (figure, above) in TO_SHOW.get(kind, {}).items():
        if row[figure] is not None:
            found[name] = row[figure] > 1 if above else row[figure] < 1
    return found


def page(result):
    """Markdown that reads as text too."""
    lines = [
        f"# Millstream and its peers, {result['started']}",
        "",
        f"Medians of {result['rounds']} rounds of at most {result['seconds']} s per pair; the ratios are medians of "
        f"rounds, by {BASE} in the same round. Broker on one core, load on the other.",
    ]
    table = rows(result["runs"])
    for scenario in dict.fromkeys(row["scenario"] for row in table):
        rate = result["rates"].get(scenario)
        lines += ["", f"## {scenario}" + (f", {rate:.0f} records/s" if rate else ""), ""]
        heads = ["side", "on", "records/s", "x", "CPU s/M", "x", "written MB/M", "p50 us", "x", "p99 us", "p99.9 us", "x",
                 "others", "ours better by", "what an answer meant"]
        # Those that answer from the disk first: the others' figures are those of another promise.
        of_scenario = sorted((row for row in table if row["scenario"] == scenario), key=lambda row: not row["durable"])
        cells = [[
            row["side"], "disk" if row["durable"] else "cache",
            number(row["records_per_second"], 0), number(row["records_per_second_by_ours"], 2),
            number(row["cpu_seconds_per_million"], 3), number(row["cpu_by_ours"], 2),
            number(row["written_bytes_per_million"], 1, 1e6), number(row["p50_us"], 0), number(row["p50_by_ours"], 2),
            number(row["p99_us"], 0), number(row["p999_us"], 0), number(row["p999_by_ours"], 2),
            number(row["others_cores"], 2), better_by(row), row["durability"] + remarks(row),
        ] for row in of_scenario]
        lines += aligned([heads, *cells])
    lines += ["", "Systems: " + "; ".join(dict.fromkeys(f"{row['system']} by {row['client']}" for row in table)) + "."]
    lines += [f"Left out: {one['peer']}: {one['why']}" for one in result["skipped"]]
    return "\n".join(lines) + "\n"


def better_by(row):
    return ", ".join(f"{name}: {'met' if met else 'NOT MET'}" for name, met in row["met"].items()) or "-"


def remarks(row):
    """What is wrong with a row, if anything."""
    words = []
    if row["failed"]:
        words.append(f"{row['failed']} records failed or were not sent")
    if row["stalled"]:
        words.append(f"the disk stood still in {row['stalled']} of {row['runs']} runs")
    if row["repeats"]:
        words.append(f"{row['repeats']} runs repeated since it stood still")
    return f" [{'; '.join(words)}]" if words else ""


def number(value, digits, unit=1):
    return "-" if value is None else f"{value / unit:.{digits}f}"


def aligned(cells):
    """A Markdown table whose columns stand under each other; the first two and the last two are text."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    text = {0, 1, len(widths) - 2, len(widths) - 1}

    def line(row):
        padded = [
            cell.ljust(width) if column in text else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        return "| " + " | ".join(padded).rstrip() + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if column in text else ":") for column, width in enumerate(widths)) + "|"
    return [line(cells[0]), rule, *map(line, cells[1:])]
