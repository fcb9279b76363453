"""Times libnada against PyTorch, row by row: generator forward passes, adaptation and inversion steps, CLIP, and the time before a first step.

Nothing else may run: both sides use every core. The first run makes a Python environment and random networks of the published sizes in
${XDG_CACHE_HOME:-~/.cache}/nada-peers (about 7 GB, most of it PyTorch), and tries which form of PyTorch's networks is the fastest on this machine.
Then each row is run by both sides in turn, in processes of their own, and a table goes to the standard output."""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nada-peers"

# How far two sides may be apart: the largest difference as a share of the tensor's standard deviation, or of a loss.
TOLERANCE = 1e-3
# A compiled network must be that much faster to be taken: it costs the peer memory and its user patience.
WORTH_COMPILING = 0.97
# Of one process. A trial of a form of the peer's networks ends when it takes much longer than the best one so far.
LIMIT, TRIAL, COMPILING = 900, 240, 300

HALF, THIRD = 0.5, 1 / 3


class Row:
    """One line of the table.

    work: what both sides' programs are told to do. reach: the least ratio of PyTorch's time to ours. within: the most seconds of ours.
    warm, ours, peer: repetitions that are not counted, and that are, of each side in one process.
    """

    def __init__(self, title, work, size, clips=(), reach=None, within=None, warm=1, ours=1, peer=1):
        self.title, self.work, self.size, self.clips = title, work, size, clips
        self.reach, self.within = reach, within
        self.warm, self.ours, self.peer = warm, ours, peer


ROWS = {
    "forward-1024": Row("generator forward 1024, one picture", "forward", "1024", reach=4.0, ours=3, peer=1),
    "forward-256": Row("generator forward 256, one picture", "forward", "256", reach=2.4, ours=5, peer=3),
    "step-256": Row("adaptation step 256, batch 2, ViT-B/32", "adapt", "256", ("b32",), reach=3.0, ours=2),
    "start-256": Row("the same, before the first step", "start", "256", ("b32",), within=5),
    "step-1024": Row("adaptation step 1024, batch 2, ViT-B/32 + B/16", "adapt", "1024", ("b32", "b16"), reach=5.0),
    "start-1024": Row("the same, before the first step", "start", "1024", ("b32", "b16"), within=15),
    "invert-1024": Row("inversion step 1024", "invert", "1024", reach=5.0, ours=2),
    "clip": Row("CLIP image embedding, ViT-B/32, batch 2", "embed", "256", ("b32",), reach=1.3, warm=3, ours=15, peer=15),
}
BATCH = 2

# Everything is trained: mapping network, convolutions, ToRGB.
SETTINGS = {"batch": str(BATCH), "phase": "all", "snapshot_every": "0"}


class Failed(Exception):
    pass


def say(text):
    print(text, file=sys.stderr, flush=True)


def processor():
    try:
        model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())[1].strip()
    except (OSError, TypeError):
        model = platform.processor() or platform.machine()
    flags = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    vector = next((name for name, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags), "")
    return f"{model} {vector}".strip()


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def run(command, limit=LIMIT, environment=None):
    """Runs a program to its end: its last line of output as JSON, seconds and peak memory of the whole process, and when it began."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        begin = time.monotonic()
        child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment,
                                 start_new_session=True)
        over = None
        try:
            while True:
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() - begin > limit:
                    over = f"took more than {limit:.0f} s"
                    os.killpg(child.pid, signal.SIGKILL)
                    _, status, usage = os.wait4(child.pid, 0)
                    break
                time.sleep(0.01)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        seconds = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        text, told = [(stream.seek(0), stream.read().decode(errors="replace").strip())[1] for stream in (out, errors)]
    if over or child.returncode != 0:
        why = over or f"ended with status {child.returncode}"
        raise Failed(f"{' '.join(map(str, command))}\n{why}\n{(told or text)[-2000:]}")
    try:
        value = json.loads(text.splitlines()[-1]) if text else {}
    except ValueError:
        raise Failed(f"{' '.join(map(str, command))}\nprinted no JSON: {text[-500:]}") from None
    return value | {"wall": seconds, "begin": begin, "peak": value.get("peak") or usage.ru_maxrss * 1024}


def environment():
    """The Python that has PyTorch."""
    wanted = (HERE / "requirements.txt").read_text().split()
    folder = CACHE / f"env-{slug(wanted[0])}-python-{sys.version_info[0]}.{sys.version_info[1]}"
    python, complete = folder / "bin/python", folder / "complete"
    if not complete.exists():
        say(f"making {folder} (PyTorch: some 3 GB are downloaded)")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], stdout=sys.stderr)
        if done.returncode != 0:
            sys.exit(f"pip could not install {' '.join(wanted)}: see above. What is there of {folder} is made anew by the next run.")
        complete.touch()
    return python


def build(profile):
    """The program and the bench, built."""
    say(f"building ours (profile {profile})")
    command = ["cargo", "build", "--profile", profile, "--bin", "nada", "--bench", "peers", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("cargo could not build: see above")
    found = {}
    for message in map(json.loads, done.stdout.splitlines()):
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            found[message["target"]["name"]] = message["executable"]
    return found["nada"], found["peers"]


def flops_of_generator(side, channels):
    """Of one picture: 2 for each multiplication of the convolutions as they are written; the up-sampling ones have the small picture's pixels."""
    total = 2 * 9 * channels(4) ** 2 * 16 + 2 * 3 * channels(4) * 16
    at = 8
    while at <= side:
        to, pixels = channels(at), at * at
        total += 2 * 9 * channels(at // 2) * to * pixels // 4 + 2 * 9 * to * to * pixels + 2 * 3 * to * pixels
        at *= 2
    return total


def flops_of_clip(patch, side, width, layers):
    """Of one picture's embedding."""
    tokens = (side // patch) ** 2 + 1
    return layers * (24 * tokens * width ** 2 + 4 * tokens ** 2 * width) + 2 * (tokens - 1) * 3 * patch ** 2 * width


class Bench:
    def __init__(self, a):
        self.a = a
        self.python = environment()
        self.nada, self.peers = build(a.profile)
        self.models = CACHE / ("models-quick" if a.quick else "models")
        done = subprocess.run([self.python, HERE / "models.py", self.models, *(["--quick"] if a.quick else [])], stdout=sys.stderr)
        if done.returncode != 0:
            sys.exit(f"the random networks could not be written to {self.models}: see above")
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="nada-peers-"))
        self.variables = os.environ | {"RAYON_NUM_THREADS": str(a.threads), "OMP_NUM_THREADS": str(a.threads),
                                       "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "inductor"), "NADA_DOMAINS": str(self.work / "gallery")}
        # The figures shall not depend on what the caller has set.
        for name in ("NADA_MODELS", "NADA_MEMORY_LIMIT", "NADA_LOG"):
            self.variables.pop(name, None)
        self.texts = self.work / "texts.txt"
        self.templates = (ROOT / "assets/templates.txt").read_text().splitlines()[: 4 if a.quick else None]
        # The first half is the source's, as the peer has it.
        self.texts.write_text("".join(t.replace("{}", words) + "\n" for words in ("photo", "sketch") for t in self.templates))
        known = self.ours("settings")
        self.defaults = known["defaults"]
        # Peak memory of PyTorch's own process without a network.
        self.bare = []
        self.modes = {"default": {}, "reference": {"mode": "reference"}}
        self.low = {of: {"memory": "low"} for of in ("adapt", "invert") if "memory" in known[of]}

    def file(self, name):
        return self.models / f"{name}.safetensors"

    def ours(self, work, **given):
        words = [f"{name}={v}" for name, value in given.items() for v in (value if isinstance(value, list) else [value])]
        return run([self.peers, work, *words], environment=self.variables)

    def peer(self, work, *flags, limit=LIMIT):
        return run([self.python, HERE / "peer.py", work, "--threads", self.a.threads, *flags], limit, self.variables)

    def tokens(self, size):
        return self.work / f"agree-{size}.safetensors"

    # Ours, by row.

    def settings(self, row, mode):
        changes = self.low.get(row.work, self.low.get("adapt", {})) if mode == "low" else self.modes[mode]
        return ({} if row.work == "invert" else SETTINGS) | changes

    def ours_row(self, row, mode):
        given = {"generator": self.file(f"generator-{row.size}"), "inputs": self.file(f"inputs-{row.size}"),
                 "clip": [self.file(f"clip-{c}") for c in row.clips], "warm": row.warm, "times": row.ours}
        changes = {} if row.work not in ("adapt", "invert") else self.settings(row, mode)
        words = lambda changes: [f"{name}:{value}" for name, value in changes.items()]
        first = self.ours(row.work, **given, set=words(changes))
        if row.work != "adapt" or mode == "reference":
            return first
        # The first steps of a run draw the pool's unadapted pictures, the others have them: with a pool of one batch, all but the first.
        later = self.ours(row.work, **given, set=words(changes | {"pool": str(BATCH)}))
        filling = self.defaults["pool"] / BATCH / self.defaults["steps"]
        kinds = [statistics.mean(of["seconds"]) for of in (first, later)]
        return first | {"seconds": [filling * kinds[0] + (1 - filling) * kinds[1]], "peak": max(first["peak"], later["peak"]),
                        "first": kinds[0], "later": kinds[1]}

    def ours_start(self, row, mode, step):
        """The program as a user runs it, for one step, less a step."""
        out = self.work / "domain.nada.safetensors"
        command = [self.nada, "--json", "--threads", self.a.threads, "adapt", "sketch", "--source", "photo", "--steps", "1", "--force",
                   "--generator", self.file(f"generator-{row.size}"), "--output", out, "--sheet", self.work / "sheet.png"]
        for clip in row.clips:
            command += ["--clip", self.file(f"clip-{clip}")]
        for name, value in self.settings(row, mode).items():
            command += [f"--{name.replace('_', '-').replace('.', '-')}", value]
        if self.a.quick:
            command += [word for template in self.templates for word in ("--template", template)]
        done = run(command, environment=self.variables)
        return {"seconds": [max(done["wall"] - step, 0.0)], "peak": done["peak"], "whole": done["wall"], "step": step}

    # The peer, by row and form.

    def peer_row(self, row, form, limit=LIMIT, times=None):
        flags = ["--generator", self.file(f"generator-{row.size}"), "--inputs", self.file(f"inputs-{row.size}"), "--batch", BATCH,
                 "--warm", row.warm, "--times", times or row.peer, *form]
        for clip in row.clips:
            flags += ["--clip", self.file(f"clip-{clip}")]
        if row.work == "start":
            flags += ["--tokens", self.tokens(row.size)]
        done = self.peer(row.work, *flags, limit=limit)
        if row.work == "start":
            done["seconds"] = [done["ready"] - done["begin"]]
        return done

    def agree(self, names):
        """Compares what both sides make of the same networks, for all sizes that the rows have."""
        found = {}
        for size in sorted({ROWS[name].size for name in names}):
            clips = sorted({c for name in names for c in ROWS[name].clips if ROWS[name].size == size}, reverse=True)
            files = [self.file(f"clip-{c}") for c in clips]
            generator, inputs = self.file(f"generator-{size}"), self.file(f"inputs-{size}")
            self.ours("agree", generator=generator, clip=files, inputs=inputs, texts=self.texts, out=self.tokens(size))
            flags = ["--generator", generator, "--inputs", inputs, "--ours", self.tokens(size)]
            for file in files:
                flags += ["--clip", file]
            found[size] = self.peer("agree", *flags)["differences"]
            for name, apart in found[size].items():
                say(f"  {size}: {name} differs by {apart:.1e} of its standard deviation")
                if not apart <= TOLERANCE:
                    sys.exit(f"{size}: {name} of both sides differs by {apart:.1e} of its standard deviation, more than {TOLERANCE:.0e}: "
                             "they would not do the same work, so nothing is timed")
        return found

    # Which form of the peer's networks is the fastest.

    def choose(self, names):
        """For each row the flags of the fastest form, tried once and kept for this machine, this PyTorch and this number of threads."""
        version = (HERE / "requirements.txt").read_text().split()[0]
        kept = CACHE / f"forms-{slug(version)}-{slug(processor())}-{self.a.threads}{'-quick' if self.a.quick else ''}.json"
        forms = {} if self.a.choose else (json.loads(kept.read_text()) if kept.exists() else {})
        eager = [[], ["--channels-last"], ["--grouped"], ["--grouped", "--channels-last"]]
        for name in sorted(names, key=lambda name: name == "step-1024"):
            row = ROWS[name]
            if name in forms or row.work == "start":
                continue
            candidates = [[]] if row.work == "embed" else eager
            best_of = [forms[other]["form"] for other in ("step-256", "invert-1024") if other in forms]
            if name == "step-1024" and best_of:
                # A trial is minutes long: only what was the best with weights' gradients, and at this size.
                candidates = [list(form) for form in dict.fromkeys(map(tuple, best_of))]
            tried = []

            def attempt(form, most):
                best = min(tried, key=lambda t: t["seconds"], default=None)
                limit = min(most, 2 * best["wall"] + 10) if best and "--compile" not in form else most
                try:
                    done = self.peer_row(row, form, limit, times=max(row.peer, 1))
                except Failed as e:
                    say(f"  {name} {' '.join(form) or 'shared weights'}: no time ({str(e).splitlines()[1]})")
                    return
                tried.append({"form": form, "seconds": statistics.median(done["seconds"]), "wall": done["wall"]})
                say(f"  {name} {' '.join(form) or 'shared weights'}: {tried[-1]['seconds']:.3f} s")

            for form in candidates:
                attempt(form, TRIAL)
            if not tried:
                raise Failed(f"no form of the peer's networks came to an end for {name}")
            best = min(tried, key=lambda t: t["seconds"])
            if not self.a.no_compile and "--compile" not in best["form"] and not (name == "step-1024" and best_of):
                attempt(best["form"] + ["--compile"], COMPILING)
                other = min(tried, key=lambda t: t["seconds"])
                if other["seconds"] < WORTH_COMPILING * best["seconds"]:
                    best = other
            forms[name] = {"form": best["form"], "tried": tried}
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(forms, indent=1))
            part.replace(kept)
        return forms

    def flops(self, row):
        """Of one repetition, as the algorithm is published: what Winograd, reuse and the causal text tower save is speed."""
        quick = self.a.quick
        side = {"256": 32, "1024": 64}[row.size] if quick else int(row.size)
        drawn = flops_of_generator(side, (lambda s: 32) if quick else (lambda s: min(32768 // s, 512)))
        patches = {"b32": 32, "b16": 16}
        seen = sum(flops_of_clip(patches[c], *((64, 64, 2) if quick else (224, 768, 12))) for c in row.clips)
        return {"forward": drawn, "embed": BATCH * seen, "invert": 2 * drawn,
                # The frozen twin, the trained one and its way back, which is two; each CLIP of both, and back to one's pictures.
                "adapt": BATCH * (4 * drawn + 3 * seen)}.get(row.work)


def median(values):
    return statistics.median(values) if values else None


def measure(bench, names, repeats):
    """Every row of both sides in turn, `repeats` times."""
    results = {name: {"peer": [], "default": [], "reference": [], "low": []} for name in names}
    gemm, failed = [], {}

    def one(name, side, work):
        try:
            done = work()
        except Failed as e:
            say(f"{name}, {side}: {e}")
            failed.setdefault(name, str(e))
            return None
        kept = {key: done[key] for key in ("seconds", "peak", "wall", "whole", "step", "losses", "first", "later") if key in done}
        # The mean: a step that does what later ones need not shall count.
        kept["time"] = statistics.mean(kept["seconds"]) if ROWS[name].work == "adapt" else statistics.median(kept["seconds"])
        results[name][side].append(kept)
        kinds = f" (the first {kept['first']:.3f}, later ones {kept['later']:.3f})" if "first" in kept else ""
        say(f"  {name:13} {side:10} {kept['time']:8.3f} s{kinds}, {kept['peak'] / 1e9:.2f} GB")
        return kept

    for repeat in range(repeats):
        say(f"repeat {repeat + 1} of {repeats}")
        done = bench.peer("gemm", "--warm", 3, "--times", 10)
        gemm.append(done["gflops"])
        bench.bare.append(done["peak"])
        steps = {}
        for name in names:
            row = ROWS[name]
            one(name, "peer", lambda: bench.peer_row(row, bench.forms.get(name, {"form": []})["form"]))
            if row.work == "start":
                for mode in ("default", "low") if "adapt" in bench.low else ("default",):
                    def start():
                        step = steps.get((row.size, mode))
                        if step is None:
                            of_step = next(r for r in ROWS.values() if r.work == "adapt" and r.size == row.size)
                            step = bench.ours_row(of_step, mode)["first"]
                        return bench.ours_start(row, mode, step)
                    one(name, mode, start)
                continue
            modes = ["default"]
            # Beside the figure that counts, once: it is the slow one.
            if row.work == "adapt" and repeat == 0:
                modes.append("reference")
            if row.work in bench.low:
                modes.append("low")
            for mode in modes:
                done = one(name, mode, lambda: bench.ours_row(row, mode))
                if done and row.work == "adapt":
                    steps[row.size, mode] = done.get("first", done["time"])
            peer, mine = results[name]["peer"], results[name]["default"]
            if row.work == "invert" and repeat == 0 and peer and mine:
                for i, (p, m) in enumerate(zip(peer[0]["losses"][:2], mine[0]["losses"][:2])):
                    if not abs(p - m) <= TOLERANCE * abs(p):
                        failed[name] = f"the loss of step {i + 1} is {m} of ours and {p} of PyTorch's: not the same work"
                        say(failed[name])
    return results, gemm, failed


def table(bench, names, results, gemm, failed):
    """Markdown, and the same as numbers."""
    peak = max(gemm)
    low = any(results[name]["low"] for name in names)
    head = ["work", "PyTorch", "ours", "ratio", "wanted", "reached", "`reference`", "PyTorch's memory", "ours", "share", "at most", "reached",
            "FLOPs", "ours GFLOP/s", "of a GEMM"]
    if low:
        head += ["`memory = low`", "its memory", "share", "at most", "reached"]
    lines, numbers = [head, ["---"] * len(head)], {}
    seconds = lambda t: "-" if t is None else f"{t:.3f} s" if t < 1 else f"{t:.2f} s" if t < 10 else f"{t:.1f} s"
    size = lambda b: "-" if b is None else f"{b / 1e9:.2f} GB"
    number = lambda x, digits=2: "-" if x is None else f"{x:.{digits}f}"
    mark = lambda fine: "-" if fine is None else "yes" if fine else "no"
    for name in names:
        row, of = ROWS[name], results[name]
        time_of = {side: median([r["time"] for r in of[side]]) for side in of}
        peak_of = {side: median([r["peak"] for r in of[side]]) for side in of}
        share = lambda a, b: a / b if a and b else None
        ratio = share(time_of["peer"], time_of["default"])
        fine = None
        if row.reach and ratio:
            fine = ratio >= row.reach
        if row.within and time_of["default"] is not None:
            fine = time_of["default"] <= row.within
        memory, memory_low = share(peak_of["default"], peak_of["peer"]), share(peak_of["low"], peak_of["peer"])
        flops = bench.flops(row)
        rate = flops / time_of["default"] * 1e-9 if flops and time_of["default"] else None
        wanted = f"{row.reach}" if row.reach else f"{row.within} s at most"
        title = row.title + (" (FAILED)" if name in failed else "")
        kinds = [median([r[key] for r in of["default"] if key in r]) for key in ("first", "later")]
        mine = seconds(time_of["default"]) + (f" ({seconds(kinds[0])}, later {seconds(kinds[1])})" if kinds[1] else "")
        line = [title, seconds(time_of["peer"]), mine, number(ratio), wanted, mark(fine), seconds(time_of["reference"]),
                size(peak_of["peer"]), size(peak_of["default"]), number(memory), number(HALF), mark(None if memory is None else memory <= HALF),
                f"{flops * 1e-9:.4g} G" if flops else "-", number(rate, 0), f"{rate / peak:.0%}" if rate else "-"]
        if low:
            line += [seconds(time_of["low"]), size(peak_of["low"]), number(memory_low), number(THIRD),
                     mark(None if memory_low is None else memory_low <= THIRD)]
        lines.append(line)
        numbers[name] = {"title": row.title, "seconds": time_of, "peak_bytes": peak_of, "ratio": ratio, "wanted_ratio": row.reach,
                         "wanted_seconds": row.within, "reached": fine, "memory_share": memory, "memory_share_low": memory_low, "flops": flops,
                         "gflops": rate, "share_of_gemm": rate / peak if rate else None, "form_of_peer": bench.forms.get(name), "runs": of,
                         "failed": failed.get(name)}
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return text, numbers


def main():
    parser = argparse.ArgumentParser(prog="scripts/peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {', '.join(ROWS)}, with commas")
    parser.add_argument("--repeats", type=int, default=3, help="of each row (3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side (all cores)")
    parser.add_argument("--json", type=pathlib.Path, help="where the results go (benches/results/peers-CPU.json; none with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny networks and one repeat: whether it works, no figures")
    parser.add_argument("--profile", help="Cargo's profile for ours (release; dev with --quick)")
    parser.add_argument("--choose", action="store_true", help="try anew which form of PyTorch's networks is the fastest")
    parser.add_argument("--no-compile", action="store_true", help="do not try torch.compile")
    parser.add_argument("--prepare", action="store_true", help="environment, networks and build, and nothing more")
    a = parser.parse_args()
    names = [name.strip() for name in a.rows.split(",") if name.strip()]
    for name in names:
        if name not in ROWS:
            parser.error(f"--rows: there is no row {name}; there are {', '.join(ROWS)}")
    names = [name for name in ROWS if name in names]
    if a.repeats < 1 or a.threads < 1 or not names:
        parser.error("--repeats, --threads and the number of rows must be 1 or more")
    a.profile = a.profile or ("dev" if a.quick else "release")
    a.repeats = 1 if a.quick else a.repeats
    if not a.json and not a.quick:
        a.json = ROOT / f"benches/results/peers-{slug(processor())}.json"
    # So that a measurement in progress ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    CACHE.mkdir(parents=True, exist_ok=True)
    bench = Bench(a)
    try:
        return measured(bench, a, names)
    except Failed as e:
        sys.exit(str(e))
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)


def measured(bench, a, names):
    if a.prepare:
        return
    load = os.getloadavg()[0]
    if load > 0.5 and not a.quick:
        say(f"warning: the load of this machine was {load:.1f} in the last minute; figures count where nothing else runs")
    say("comparing both sides' numbers")
    differences = bench.agree(names)
    say("which form of PyTorch's networks is the fastest (once a machine)")
    bench.forms = bench.choose(names)
    begin = time.monotonic()
    results, gemm, failed = measure(bench, names, a.repeats)
    text, numbers = table(bench, names, results, gemm, failed)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    wanted = " ".join((HERE / "requirements.txt").read_text().split())
    print(f"{processor()}, {a.threads} threads, {wanted.split()[0]}, commit {commit}, {datetime.date.today()}, medians of {a.repeats}; "
          f"a GEMM of 2048 reaches {max(gemm):.0f} GFLOP/s; "
          f"of PyTorch's memory {min(bench.bare) / 1e9:.2f} GB are its libraries" + (" (--quick: no figures)" if a.quick else ""))
    print()
    print(text)
    say(f"measured in {(time.monotonic() - begin) / 60:.1f} minutes")
    if a.json:
        a.json.parent.mkdir(parents=True, exist_ok=True)
        part = a.json.with_suffix(".part")
        part.write_text(json.dumps({"processor": processor(), "threads": a.threads, "requirements": wanted.split(), "commit": commit,
                                    "date": str(datetime.date.today()), "repeats": a.repeats, "quick": a.quick, "profile": a.profile,
                                    "gemm_gflops": gemm, "peer_bare_peak_bytes": bench.bare, "differences": differences, "rows": numbers}, indent=1) + "\n")
        part.replace(a.json)
        say(f"written: {a.json}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
