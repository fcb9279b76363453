"""How long a cancelled job takes to end, with the starter: 20 random moments of an adaptation and 20 of an inversion. Without Krita.

    python3 tests/hosts/krita/measure_cancel.py [MOMENTS]

Run by hand on a machine that does nothing else; the tests are not timed.
"""
import os
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "unit"))
import common
from libnada import nada, work

# How long an adaptation and an inversion take about, in seconds: moments are drawn from it, from the very start on.
SPAN = {"adaptation": 12.0, "inversion": 6.0}


def once(engine, kind, moment):
    """Seconds from trigger to the job's end, and what it was at."""
    token, asked, at = engine.token(), [], ["Starting"]

    def report(report):
        at[0] = "%s, step %d" % (report.stage, report.step)
    timer = threading.Timer(moment, lambda: (asked.append(time.monotonic()), token.trigger()))
    engine._latents.clear()
    timer.start()
    try:
        if kind == "adaptation":
            engine.new_domain(work.Wish(target="a zombie", install=False), report, token)
        else:
            side, rgba = common.face()
            picture = work.Picture(common.bgra(rgba), side, "U8", nada.SRGB)
            engine.restyle(work.Wish(domain=engine.file), picture, report, token)
    except nada.Cancelled:
        return time.monotonic() - asked[0], at[0]
    timer.cancel()
    return None, "it had ended before"


def main():
    moments = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        engine = work.Engine(folder)
        engine.file = engine.new_domain(work.Wish(target="a pencil sketch", steps=2), lambda report: None).file
        for kind, span in SPAN.items():
            times = []
            for _ in range(moments):
                moment = rng.uniform(0, span)
                seconds, at = once(engine, kind, moment)
                if seconds is not None:
                    times.append(seconds)
                print("%-10s after %5.2f s: %s (%s)" % (kind, moment, "-" if seconds is None else "%.3f s" % seconds, at), flush=True)
            times.sort()
            print("%s: median %.3f s, longest %.3f s of %d" % (kind, times[len(times) // 2], times[-1], len(times)))


main()
