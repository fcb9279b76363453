"""Jobs on a thread of their own, so that the host stays usable. Knows nothing of Krita; Qt (PyQt5) is all it needs.

Everything here but Job.run() is for the GUI thread.
"""
import threading

from PyQt5.QtCore import QObject, QThread, pyqtSignal

from . import nada, work


class Job(QThread):
    """One call of the engine: `task(report, cancel)`. Ends with `ended`, on the GUI thread: its result and None, or None and the error.
    A job that is cancelled ends at once; its thread follows within the step that it is in, and what it makes is dropped."""
    reported = pyqtSignal(object)
    ended = pyqtSignal(object, object)

    def __init__(self, engine, task, parent=None):
        super().__init__(parent)
        self._engine, self._task = engine, task
        self._lock, self._token, self._stop = threading.Lock(), None, False
        self.result = self.error = None
        self.is_over = False
        self.finished.connect(lambda: self._end(self.result, self.error))
        self.finished.connect(self.deleteLater)

    def _end(self, result, error):
        if not self.is_over:
            self.is_over = True
            self.ended.emit(result, error)

    def run(self):
        work.calm()
        try:
            token = self._engine.token()
            with self._lock:
                self._token = token
                if self._stop:
                    token.trigger()
            self.result = self._task(self.reported.emit, token)
        # Whatever it is, it must not end the host.
        except BaseException as error:
            self.error = error
            if not isinstance(error, nada.Cancelled):
                self._engine.log.error(error)

    def stop(self):
        """Lets the thread end soon, with Cancelled."""
        with self._lock:
            self._stop = True
            if self._token:
                self._token.trigger()

    def cancel(self):
        self.stop()
        self._end(None, nada.Cancelled.here())


class Desk(QObject):
    """Runs one job at a time. Long ones are asked for by the user: a second one is refused. Small ones (previews, lists) wait for their
    turn, and of those with the same name only the newest is done."""
    busy = pyqtSignal(bool)
    # The gallery's folder changed.
    gallery_changed = pyqtSignal()

    def __init__(self, engine, parent=None):
        super().__init__(parent)
        self.engine = engine
        self._job, self._long, self._waiting = None, False, {}

    @property
    def is_busy(self):
        return self._long

    def start(self, task, reported, ended):
        """Starts a long job; False where one is running. `ended(result, error)`."""
        if self._long:
            return False
        self._long = True
        self.busy.emit(True)
        # A small one that is under way is nearly done: the engine lets one call in at a time.
        self._run(task, reported, ended, True)
        return True

    def soon(self, name, task, ended):
        """Does a small job when nothing else is running. `ended(result, error)`."""
        self._waiting[name] = (task, ended)
        self._next()

    def cancel(self):
        """Cancels the long job."""
        if self._long and self._job:
            self._job.cancel()

    def close(self):
        """Ends what is running; called when the host quits, where a thread that still ran would end it badly."""
        self._waiting.clear()
        # All before the first is waited for: one may wait for another. None is told that it ended: windows may be gone.
        for job in self.findChildren(Job):
            job.stop()
        for job in self.findChildren(Job):
            job.wait()

    def _run(self, task, reported, ended, is_long):
        job = Job(self.engine, task, self)
        if is_long:
            self._job = job
        if reported:
            # What is on its way while the user cancels is not shown any more.
            job.reported.connect(lambda report: None if job.is_over else reported(report))

        def done(result, error):
            if is_long:
                self._job, self._long = None, False
            else:
                self._small = None
            try:
                ended(result, error)
            except Exception as problem:
                self.engine.log.error(problem)
                raise
            finally:
                if is_long:
                    self.busy.emit(False)
                self._next()
        job.ended.connect(done)
        job.start()
        return job

    _small = None

    def _next(self):
        if self._long or self._small or not self._waiting:
            return
        task, ended = self._waiting.pop(next(iter(self._waiting)))
        self._small = self._run(lambda report, cancel: self.engine.watched(task, cancel), None, ended, False)
