"""python3 -m unittest discover bench/peers"""

import unittest

import table


def run(side, number, rate, cpu, pair="redis", **others):
    return {
        "scenario": "batched 1 KiB", "side": side, "round": number, "pair": pair, "records_per_second": rate,
        "cpu_seconds_per_million": cpu, "written_bytes_per_million": 2e9, "p50_us": 100, "p99_us": 200,
        "p999_us": 300, "failed": 0, "stalled": False, "others_cores": 0.5, "steal_cores": 0.0,
        "durability": "on the disk", "system": {"system": side, "client": "a client"}, **others,
    }


def result(runs, **others):
    return {"started": "now", "rounds": 3, "seconds": 4, "rates": {}, "skipped": [], "runs": runs, **others}


class Table(unittest.TestCase):
    def test_a_slow_round_moves_neither_median_nor_ratio(self):
        # The machine was twice as slow in the second round, for both.
        runs = [run(table.BASE, number, rate, 0.5) for number, rate in enumerate([100, 50, 100])]
        runs += [run("redis", number, rate, 1.0) for number, rate in enumerate([80, 40, 80])]
        rows = table.rows(runs)
        self.assertEqual([row["side"] for row in rows], [table.BASE, "redis"])
        self.assertEqual([row["records_per_second"] for row in rows], [100, 80])
        self.assertEqual([row["records_per_second_by_ours"] for row in rows], [1.0, 0.8])
        self.assertEqual([row["cpu_by_ours"] for row in rows], [1.0, 2.0])

    def test_a_ratio_is_within_a_pair_and_round(self):
        runs = [run(table.BASE, 0, 100, 1), run("redis", 0, 50, 1),
                run(table.BASE, 0, 10, 1, pair="nats"), run("nats", 0, 30, 1, pair="nats"), run("nats", 1, 99, 1, pair="nats")]
        self.assertEqual(table.ratio(runs, "batched 1 KiB", "nats", "records_per_second", table.BASE), 3.0)
        self.assertEqual(table.ratio(runs, "batched 1 KiB", "redis", "records_per_second", table.BASE), 0.5)
        self.assertIsNone(table.ratio(runs, "batched 1 KiB", "rabbitmq", "records_per_second", table.BASE))

    def test_what_is_not_known_is_a_dash_and_not_nothing(self):
        page = table.page(result([run(table.BASE, 0, 100, None)]))
        row = next(line for line in page.splitlines() if line.startswith("| " + table.BASE))
        self.assertEqual([cell.strip() for cell in row.split("|")[4:6]], ["-", "-"])

    def test_the_page_says_what_an_answer_meant_and_what_went_wrong(self):
        runs = [run(table.BASE, 0, 100, 1), run("redis", 0, 50, 2, durability="in the page cache", failed=3, stalled=True)]
        skipped = [{"peer": "nats", "why": "apt-get install nats-server"}]
        page = table.page(result(runs, rates={"batched 1 KiB": 50.0}, skipped=skipped))
        self.assertIn("in the page cache [3 records failed or were not sent; the disk stood still in 1 of 1 runs]", page)
        self.assertIn("## batched 1 KiB, 50 records/s", page)
        self.assertIn("Left out: nats: apt-get install nats-server", page)

    def test_rounds_that_meant_different_things_are_told_apart(self):
        runs = [run("redis", 0, 50, 1), run("redis", 1, 50, 1, durability="in memory")]
        self.assertEqual(table.rows(runs)[0]["durability"], "in memory / on the disk")


if __name__ == "__main__":
    unittest.main()
