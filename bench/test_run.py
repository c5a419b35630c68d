"""What bench/run makes of figures. python3 -m unittest discover bench"""

import importlib.util
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

    def test_what_a_tail_adds_is_the_median_of_differences_within_rounds(self):
        # The machine was twice as slow in the second round, for both.
        added, spread = run.added_by([(1.0, 1.2), (2.0, 2.4), (1.0, 1.1)])
        self.assertAlmostEqual(added, 0.2)
        self.assertAlmostEqual(spread, 0.3)


if __name__ == "__main__":
    unittest.main()
