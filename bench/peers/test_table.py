"""python3 -m unittest discover bench/peers"""

import unittest

import run as peers
import table


def run(side, number, rate, cpu, pair="redis", **others):
    return {
        "scenario": "batched 1 KiB", "side": side, "round": number, "pair": pair, "records_per_second": rate,
        "cpu_seconds_per_million": cpu, "written_bytes_per_million": 2e9, "p50_us": 100, "p99_us": 200,
        "p999_us": 300, "failed": 0, "stalled": False, "repeats": 0, "others_cores": 0.5, "steal_cores": 0.0,
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
        self.assertEqual([cell.strip() for cell in row.split("|")[5:7]], ["-", "-"])

    def test_the_page_says_what_an_answer_meant_and_what_went_wrong(self):
        runs = [run(table.BASE, 0, 100, 1), run("redis", 0, 50, 2, durability="in the page cache", failed=3, stalled=True, repeats=2)]
        skipped = [{"peer": "nats", "why": "apt-get install nats-server"}]
        page = table.page(result(runs, rates={"batched 1 KiB": 50.0}, skipped=skipped))
        self.assertIn("in the page cache [3 records failed or were not sent; the disk stood still in 1 of 1 runs; 2 runs repeated since it stood still]", page)
        self.assertIn("## batched 1 KiB, 50 records/s", page)
        self.assertIn("Left out: nats: apt-get install nats-server", page)

    def test_rounds_that_meant_different_things_are_told_apart(self):
        runs = [run("redis", 0, 50, 1), run("redis", 1, 50, 1, durability="in memory")]
        self.assertEqual(table.rows(runs)[0]["durability"], "in memory / on the disk")

    def test_a_verdict_is_of_ratios_within_rounds_and_of_what_is_to_be_shown(self):
        runs = [run(table.BASE, 0, 100, 0.5), run("redis", 0, 80, 0.4)]
        self.assertEqual(table.rows(runs)[1]["met"], {"CPU": False, "rate": True})
        self.assertEqual(table.rows(runs)[0]["met"], {})
        self.assertIn("CPU: NOT MET, rate: met", table.page(result(runs)))
        common = [run(table.BASE, 0, 50, 0.5), run("redis", 0, 50, 0.4, p999_us=900)]
        for one in common:
            one["scenario"] = "common rate 1 KiB, durable"
        row = table.rows(common)[1]
        self.assertEqual((row["met"], row["p999_by_ours"], row["p50_by_ours"]), ({"p99.9": True}, 3.0, 1.0))
        for one in common:
            one["scenario"] = "one in flight 1 KiB"
        self.assertEqual(table.rows(common)[1]["met"], {})

    def test_those_that_answer_from_the_page_cache_stand_apart(self):
        for durable in ("every acknowledgement said AllDisks or more", "on the replicas' disks: write.caching=false",
                        "every write of its files synchronous (chattr +S): on the disk before the answer"):
            self.assertTrue(table.is_durable(durable), durable)
        for other in ("written to the operating system's page cache: storage file", "in memory: storage memory"):
            self.assertFalse(table.is_durable(other), other)
        mixed = [run("redis", 0, 50, 1), run("redis", 1, 50, 1, durability="in memory")]
        self.assertFalse(table.rows(mixed)[0]["durable"])
        runs = [run("nats", 0, 90, 1, durability="in the page cache"), run(table.BASE, 0, 100, 1)]
        lines = [line for line in table.page(result(runs)).splitlines() if line.startswith("| ")]
        self.assertEqual([line.split("|")[2].strip() for line in lines], ["on", "disk", "cache"])


class CommonRate(unittest.TestCase):
    def test_the_highest_rate_is_found_to_five_percent(self):
        for limit in (990, 800, 500, 123, 40):
            tried = []
            found = peers.highest(lambda rate: tried.append(rate) or rate <= limit, 1000)
            self.assertTrue(limit / 1.05 <= found <= limit, (limit, found))
            self.assertLess(len(tried), 20)

    def test_a_system_that_bears_nothing_has_no_rate(self):
        self.assertIsNone(peers.highest(lambda rate: False, 1000))


if __name__ == "__main__":
    unittest.main()
