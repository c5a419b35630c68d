"""What bench/run makes of figures. python3 -m unittest discover bench"""

import contextlib
import importlib.util
import io
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

LOADER = SourceFileLoader("run", str(Path(__file__).resolve().parent / "run"))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", LOADER))
LOADER.exec_module(run)


def phase(achieved=1.0, unsent=0, failed=None):
    return {"produced": {"achieved": achieved, "unsent": unsent, "failed": failed or {}}}


class Figures(unittest.TestCase):
    def test_a_figure_of_a_phase_that_fell_behind_meets_nothing(self):
        self.assertEqual(run.kept_up(True, "a note", [phase(), phase(None)]), (True, "a note"))
        self.assertEqual(run.kept_up(False, "a note", [phase()]), (False, "a note"))
        for behind in (phase(0.98), phase(unsent=1), phase(failed={"refused": 1})):
            self.assertEqual(run.kept_up(True, "a note", [phase(), behind]), (False, "fell behind; a note"))
        self.assertEqual(run.kept_up(True, "", [phase(0.5)]), (False, "fell behind"))

    def test_what_a_tail_adds_is_told_only_where_rounds_agree(self):
        # The machine was twice as slow in the second round, for both.
        added = run.added_by([(1.0, 1.2), (2.0, 2.4), (1.0, 1.1)])
        self.assertEqual([round(figure, 6) for figure in added], [0.2, 0.4, 0.1])
        self.assertEqual([run.all_or_none(added, bound) for bound in (0.5, 0.3, 0.05)], [True, None, False])

    def test_what_lasts_is_the_end_of_a_run_and_not_its_burst(self):
        seconds = [{"seconds": 1.0, "acknowledged": count} for count in [300, 300, 280, 90, 70, 60, 75, 70, 71]]
        self.assertEqual(run.lasting([*seconds, {"seconds": 0.1, "acknowledged": 0}]), 71)

    def test_room_is_for_the_records_and_for_segments_ahead_of_them(self):
        self.assertEqual(run.room_bytes(1_000_000, 1000, 1), 1_100_000_000 + 2 * (128 << 20))

    def test_what_the_kernel_does_not_show_is_a_dash(self):
        cost = {"device_requests": {"writes": 100}, "used": {"written_bytes": 4e6}, "write_amplification": 2.0}
        busy = {"broker_cores": 0.5, "generator_cores": 0.25, "others_cores": 0.0, "steal_cores": 0.0}
        one = {"seconds": 2.0, "cost": cost, "busy": busy, "produced": {"mb_per_second": 3.0}}
        self.assertEqual(run.device_writes(one), "50/s, 2.0 MB/s")
        self.assertIn("2.00 times", run.about([one]))
        cost |= {"device_requests": None, "used": {"written_bytes": None}, "write_amplification": None}
        self.assertEqual(run.device_writes(one), "-/s, - MB/s")
        self.assertEqual(run.about([one]), "3 MB/s; cores: broker 0.50, generator 0.25, others 0.00")

    def test_numbers_by_name_are_what_the_history_takes(self):
        table = run.Table()
        with contextlib.redirect_stdout(io.StringIO()):
            table.at_most(2, "a ratio", 1.23456, 1.3)
            table.add("-", "a road", "0.500 s", "", None, "", 0.5)
            table.add(6, "not measured", "no knee found", "", None)
        self.assertEqual(table.figures(), {"2 a ratio": 1.2346, "a road": 0.5})
        self.assertEqual([row["met"] for row in table.rows], [True, None, None])

    def test_peers_are_counted_by_what_ours_are_better_in(self):
        row = lambda side, scenario, **met: {"side": side, "scenario": scenario, "durable": side != "nats", "met": met}
        rows = [row("millstream native", "batched"), row("redis", "batched", CPU=True, rate=False),
                row("redis", "single", CPU=True), row("nats", "batched", rate=True)]
        self.assertEqual(list(run.better_than(rows)), [("redis", True, 2, ["batched (rate)"]), ("nats", False, 1, [])])


if __name__ == "__main__":
    unittest.main()
