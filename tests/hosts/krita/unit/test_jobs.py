"""Jobs on threads, with Qt and without Krita."""
import tempfile
import threading
import time
import unittest

import common
from libnada import jobs, nada, work
from PyQt5.QtCore import QCoreApplication, QThread

application = QCoreApplication.instance() or QCoreApplication([])


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        application.processEvents()
        time.sleep(0.005)


class Desk(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.engine = work.Engine(self.folder.name)
        self.desk = jobs.Desk(self.engine)
        self.ended, self.reports = [], []

    def tearDown(self):
        self.desk.close()
        self.folder.cleanup()

    def start(self, task):
        return self.desk.start(task, self.reports.append, lambda *result: self.ended.append(result))

    def test_a_job_works_on_another_thread_and_reports_on_this_one(self):
        threads = []

        def task(report, cancel):
            threads.append(threading.get_ident())
            report("half")
            return "result"
        self.desk.busy.connect(lambda busy: threads.append(threading.get_ident()))
        self.assertTrue(self.start(task))
        until(lambda: self.ended)
        self.assertEqual((self.ended, self.reports), ([("result", None)], ["half"]))
        self.assertEqual([ident == threading.get_ident() for ident in threads], [True, False, True])
        self.assertFalse(self.desk.is_busy)

    def test_an_error_comes_out_and_into_the_log(self):
        def task(report, cancel):
            raise KeyError("of ours")
        self.start(task)
        until(lambda: self.ended)
        self.assertIsInstance(self.ended[0][1], KeyError)
        self.assertIn("of ours", self.engine.log.last_error)

    def test_a_second_job_is_refused(self):
        go_on = threading.Event()
        self.start(lambda report, cancel: go_on.wait())
        self.assertFalse(self.start(lambda report, cancel: None))
        go_on.set()
        until(lambda: self.ended)
        self.assertTrue(self.start(lambda report, cancel: None))
        until(lambda: len(self.ended) == 2)

    def test_cancel_ends_an_adaptation_and_is_no_error_of_the_log(self):
        wish = work.Wish(target="a zombie")
        self.start(lambda report, cancel: self.engine.new_domain(wish, report, cancel))
        until(lambda: any(report.step for report in self.reports))
        self.desk.cancel()
        until(lambda: self.ended)
        self.assertIsInstance(self.ended[0][1], nada.Cancelled)
        self.assertEqual(self.engine.log.last_error, "")
        self.assertEqual(self.engine.gallery().entries, [])

    def test_cancel_before_the_job_has_begun_counts(self):
        wish = work.Wish(target="a zombie")
        self.start(lambda report, cancel: self.engine.new_domain(wish, report, cancel))
        self.desk.cancel()
        until(lambda: self.ended)
        self.assertIsInstance(self.ended[0][1], nada.Cancelled)

    def test_a_cancelled_job_ends_at_once_and_what_its_thread_makes_is_dropped(self):
        go_on, threads_end = threading.Event(), []

        def task(report, cancel):
            report("before")
            go_on.wait()
            report("after")
            return "result"
        self.start(task)
        until(lambda: self.reports)
        thread = self.desk.findChildren(jobs.Job)[0]
        thread.finished.connect(lambda: threads_end.append(True))
        self.desk.cancel()
        # Without an event being handled.
        self.assertIsInstance(self.ended[0][1], nada.Cancelled)
        self.assertFalse(self.desk.is_busy)
        self.assertTrue(thread.isRunning())
        self.assertTrue(self.start(lambda report, cancel: "another"))
        until(lambda: len(self.ended) == 2)
        go_on.set()
        until(lambda: threads_end)
        self.assertEqual((self.ended[1:], self.reports), ([("another", None)], ["before"]))

    def test_of_small_jobs_only_the_newest_is_done_and_after_the_long_one(self):
        go_on, done = threading.Event(), []
        self.start(lambda report, cancel: go_on.wait())
        for i in range(5):
            self.desk.soon("preview", lambda i=i: i, lambda result, error: done.append(result))
        self.desk.soon("list", lambda: "list", lambda result, error: done.append(result))
        application.processEvents()
        self.assertEqual(done, [])
        go_on.set()
        until(lambda: len(done) == 2)
        self.assertEqual(sorted(map(str, done)), ["4", "list"])

    def test_closing_ends_what_runs(self):
        wish = work.Wish(target="a zombie")
        self.start(lambda report, cancel: self.engine.new_domain(wish, report, cancel))
        until(lambda: any(report.step for report in self.reports))
        jobs_running = self.desk.findChildren(jobs.Job)
        self.desk.close()
        self.assertTrue(jobs_running and all(QThread.isFinished(job) for job in jobs_running))


if __name__ == "__main__":
    unittest.main()
