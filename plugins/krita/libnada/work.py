"""What the plug-in does, without Krita and Qt: one Engine holds the library and what was opened through it, and does one job at a time."""
import collections
import contextlib
import hashlib
import os
import platform
import sys
import threading
import time
import traceback

from . import nada, pixels

VERSION = "0.2.0"
# A preview of this many pairs, while adapting.
PREVIEW_EVERY = 4
# Latents and domains that are kept, the last used ones; each is small.
KEPT = 8

# What the user asked for. `domain`: the file of an installed one, or "" for one that is made from the words. `inversion_steps`: 0 for the
# pack's own. `steps`: of adaptation, 0 for the pack's own. `install`: whether a domain that is made goes into the gallery.
Wish = collections.namedtuple("Wish", "model domain source target seed strength inversion_steps steps install name")
Wish.__new__.__defaults__ = ("starter", "", "a photo", "", 1, 1.0, 0, 0, True, "")
# How far a job is. `stage`: in words; `preview`: a Bitmap or None.
Report = collections.namedtuple("Report", "stage step total preview")
# Pixels to lie above the picture, as Krita stores them, and what they were made with.
Restyled = collections.namedtuple("Restyled", "data label domain psnr warning preview")
NewDomain = collections.namedtuple("NewDomain", "file warning preview")
# A model pack, opened, with all that a form shows. `steps`: of inversion, the pack's own.
Pack = collections.namedtuple("Pack", "name phrases source steps size")
# `thumbnails`: Bitmaps or None. `fits`: whether each was made of the model that was asked for.
Gallery = collections.namedtuple("Gallery", "folder entries thumbnails fits skipped")


class Picture:
    """A square of the user's picture: RGBA `data` as Krita stores it in `depth`, given away to the job; `mask`: 8 bits a pixel, or None;
    `edges`: those where the user's picture ends, a sum of nada.EDGE_..."""

    def __init__(self, data, side, depth, transfer, mask=None, edges=0):
        self.data, self.side, self.depth, self.transfer, self.mask, self.edges = data, side, depth, transfer, mask, edges

    def view(self, data):
        return nada.view(data, self.side, self.side, pixels.FORMATS[self.depth], self.transfer)


class Log:
    """The last lines, for "Copy diagnostics"."""

    def __init__(self):
        self.lines = collections.deque(maxlen=60)
        self.last_error = ""

    def add(self, line):
        self.lines.append(time.strftime("%H:%M:%S ") + line)

    def error(self, error):
        self.last_error = "".join(traceback.format_exception(type(error), error, error.__traceback__)).strip()
        self.add("%s: %s" % (type(error).__name__, error))


class Recent(collections.OrderedDict):
    """Keeps what was used last."""

    def find(self, key, make):
        value = self.pop(key) if key in self else make()
        self[key] = value
        while len(self) > KEPT:
            self.popitem(last=False)
        return value


class Engine:
    """Loads the library when it is first needed; a failure is tried again the next time. One call at a time (they wait for one another),
    from any thread. `gallery_folder`: None for the user's own."""

    def __init__(self, gallery_folder=None, threads=0, log=None):
        self.gallery_folder = gallery_folder
        self.log = log or Log()
        self._threads = threads
        self._lock, self._loading = threading.RLock(), threading.Lock()
        self._library = self._context = None
        self._models = {}
        self._domains, self._latents = Recent(), Recent()
        # The fingerprint and latent of the picture that was inverted last.
        self._last = None
        # The token of the work that holds the lock.
        self._cancel = None

    @property
    def library(self):
        # Not the lock of jobs: a token is asked for while one runs.
        with self._loading:
            if self._library is None:
                self._library = nada.Library()
                self.log.add("libnada %s from %s" % (self._library.version, self._library.file))
            return self._library

    def context(self):
        with self._lock:
            if self._context is None:
                beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
                folders = [beside] if os.path.isdir(beside) else []
                self._context = nada.Context(self.library, folders, self._threads)
            return self._context

    @contextlib.contextmanager
    def _watched(self, cancel):
        """While this lasts, triggering `cancel` ends what reads files or draws. The lock is held."""
        self._cancel = cancel
        try:
            yield
        finally:
            self._cancel = None

    def watched(self, task, cancel):
        """What `task()` gives; where it reads files, triggering `cancel` ends it with nada.Cancelled."""
        with self._lock, self._watched(cancel):
            return task()

    def models(self):
        """The model packs that are found."""
        with self._lock:
            warning = self.context().models_warning()
            if warning:
                self.log.add(warning)
            return self.context().models()

    def _model(self, name):
        """The opened pack and its generator."""
        if name not in self._models:
            model = self.context().model(name)
            generator = model.generator(self._cancel)
            # It is asked for below where nothing can be cancelled.
            generator.find_fingerprint(self._cancel)
            self._models[name] = (model, generator)
            self.log.add("model pack %s from %s" % (model.name, model.folder))
            if model.warning:
                self.log.add(model.warning)
        return self._models[name]

    def pack(self, name):
        with self._lock:
            model, generator = self._model(name)
            options = model.adaptation_options()
            source = (options.source_text or b"a photo").decode()
            return Pack(name, model.phrases(), source, model.inversion_options().steps, generator.size)

    def check_text(self, model, text):
        """What an opened pack does not know of a text, in a sentence, or "". At once, also while a job runs."""
        opened = self._models.get(model)
        return opened[0].check_text(text) if opened else ""

    def token(self):
        return nada.Cancel(self.library)

    def gallery(self, model=None):
        """The installed domains; `model` is the name of an opened pack, or None, whose generator draws all as far as is known."""
        with self._lock:
            gallery = self.context().gallery(self.gallery_folder)
            entries = gallery.entries()
            generator = self._model(model)[1] if model else None
            fits = [generator is None or gallery.fits(index, generator) for index in range(len(entries))]
            thumbnails = []
            for index, entry in enumerate(entries):
                try:
                    image = gallery.thumbnail(index)
                    thumbnails.append(image.bitmap(nada.RGBA8) if image else None)
                except nada.NadaError as error:
                    # It was removed or replaced since the folder was read: no reason not to show the others.
                    self.log.add("%s: %s" % (entry.file, error))
                    thumbnails.append(None)
            return Gallery(gallery.folder, entries, thumbnails, fits, gallery.skipped)

    def _domain(self, file):
        status = os.stat(file)
        return self._domains.find((file, status.st_mtime_ns, status.st_size), lambda: self.context().domain(file, self._cancel))

    def _adapt(self, wish, report, cancel):
        """A new domain by the pack's recipe, installed where the wish says so: Domain, file or "", warning."""
        model, generator = self._model(wish.model)
        changes = {"seed": wish.seed, "snapshot_every": PREVIEW_EVERY}
        if wish.steps:
            changes["steps"] = wish.steps
        adaptation = generator.adaptation(model, wish.source, wish.target, cancel, **changes)
        stage = "Learning \u201c%s\u201d" % wish.target
        report(Report(stage, 0, 0, None))

        def on_progress(step, total, loss, preview):
            report(Report(stage, step, total, preview.bitmap() if preview else None))
        adaptation.run(on_progress, cancel)
        domain, file = adaptation.result(), ""
        if wish.install:
            thumbnail = generator.render(self._face(generator, cancel), [(domain, 1.0)], cancel)
            look_at(cancel)
            file = self.context().gallery(self.gallery_folder).install(domain, wish.name or None, thumbnail, cancel)
            self.log.add("new domain %s" % file)
        return domain, file, adaptation.warning

    @staticmethod
    def _face(generator, cancel):
        """What stands for the generator where there is no picture of the user's."""
        return generator.sample(1, 1, 0.7, cancel)

    def new_domain(self, wish, report, cancel=None):
        with self._lock, self._watched(cancel):
            look_at(cancel)
            self.log.add("new domain: %s" % (wish,))
            domain, file, warning = self._adapt(wish, report, cancel)
            return NewDomain(file, warning, self._preview(wish.model, domain, wish.strength))

    def restyle(self, wish, picture, report, cancel=None):
        """Finds the picture in the generator (once: it is remembered), then draws it with the domain. Raises nada.Cancelled, and leaves
        nothing behind but what is remembered and a domain that was complete."""
        def look():
            look_at(cancel)
        with self._lock, self._watched(cancel):
            look()
            self.log.add("restyle: %s, %d pixels a side, %s" % (wish, picture.side, picture.depth))
            model, generator = self._model(wish.model)
            warning, file = "", wish.domain
            if wish.domain:
                domain = self._domain(wish.domain)
            else:
                domain, file, warning = self._adapt(wish, report, cancel)
            # A large picture is held once.
            source, picture.data = pixels.from_krita(picture.data, picture.depth, look), None
            latent, psnr = self._invert(model, generator, wish, picture.view(source), report, cancel)
            self._last = (generator.fingerprint, latent)
            look()
            report(Report("Drawing", 0, 0, None))
            target = pixels.room(len(source))
            # Where the picture ends there is nothing to blend into.
            generator.render_frame(picture.view(source), latent, [(domain, wish.strength)], picture.view(target), cancel, replace=1,
                                   hard_edges=picture.edges)
            del source
            look()
            if picture.mask is not None:
                pixels.multiply_alpha(target, pixels.FORMATS[picture.depth], picture.mask)
            target = pixels.to_krita(target, picture.depth, look)
            preview = generator.render(latent, [(domain, wish.strength)], cancel).bitmap()
            return Restyled(target, domain.target, file, psnr, warning, preview)

    def _invert(self, model, generator, wish, view, report, cancel):
        image = nada.image_from_square(self.library, view, generator.size, cancel)
        look_at(cancel)
        steps = wish.inversion_steps or model.inversion_options().steps
        digest = hashlib.blake2b(image.bitmap(nada.RGBA32F).data).digest()
        key = (generator.fingerprint, steps, digest)
        stage = "Finding the picture in the model"

        def search():
            report(Report(stage, 0, 0, None))

            def on_progress(step, total, loss, preview):
                report(Report(stage, step, total, preview.bitmap() if preview else None))
            return generator.invert(image, model, on_progress, cancel, steps=steps)
        return self._latents.find(key, search)

    def preview(self, model, domain, strength):
        """A Bitmap of the picture that was inverted last with a domain file at a strength, or of a face of the generator's."""
        with self._lock:
            return self._preview(model, self._domain(domain), strength)

    def _preview(self, model, domain, strength):
        generator = self._model(model)[1]
        if self._last and self._last[0] == generator.fingerprint:
            latent = self._last[1]
        else:
            latent = self._face(generator, self._cancel)
        return generator.render(latent, [(domain, strength)], self._cancel).bitmap()

    def diagnostics(self, host=()):
        """For bug reports: versions, paths, models, gallery, the last error, the last log lines. Never fails. `host`: lines of its own."""
        lines = ["libnada plug-in for Krita %s" % VERSION]
        lines += list(host)
        lines.append("Python %s on %s, %s processors" % (platform.python_version(), platform.platform(), os.cpu_count()))
        lines += ["%s=%s" % (name, value) for name, value in sorted(os.environ.items()) if name.startswith(("NADA_", "CANDLE_", "RAYON_"))]

        def section(name, work):
            try:
                lines.extend(work())
            except Exception as error:
                lines.append("%s: %s: %s" % (name, type(error).__name__, error))
        # A job that runs holds the lock: it must not hold up the one who asks what is going on.
        if self._lock.acquire(timeout=0.2):
            try:
                section("library", lambda: ["library %s, ABI %d, %s" % (self.library.version, self.library.abi, self.library.file),
                                            "device cpu, %d threads" % self.context().threads])
                section("model packs", lambda: ["model pack %s in %s" % (m.name, m.folder) for m in self.models()])
                section("opened models", lambda: ["opened %s, generator %s" % (name, generator.fingerprint)
                                                  for name, (_, generator) in self._models.items()])
                gallery = "gallery %s: %d domains, %d files that are none"
                section("gallery", lambda: [gallery % (g.folder, len(g.entries), g.skipped) for g in [self.gallery()]])
            finally:
                self._lock.release()
        else:
            lines.append("library: a job is running" + (", " + self._library.file if self._library else ""))
        lines.append("last error: %s" % (self.log.last_error or "none"))
        lines.append("log:")
        lines += ["  " + line for line in list(self.log.lines)]
        return "\n".join(lines) + "\n"


def look_at(cancel):
    """Raises nada.Cancelled where the user cancelled."""
    if cancel:
        cancel.check()


def calm(thread_niceness=5):
    """Lets the calling thread, and the threads that it starts, yield to the host's own. Linux only: elsewhere a thread has no niceness of
    its own that is set this way."""
    if sys.platform.startswith("linux"):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), thread_niceness)
        except OSError:
            pass
