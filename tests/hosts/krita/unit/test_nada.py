"""The ctypes binding against the header and the built library."""
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import common
from libnada import nada


def compile_library(folder, source):
    file = os.path.join(folder, "libother.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", file], input=source.encode(), check=True)
    return file


class Header(unittest.TestCase):
    """Everything that the binding says of nada.h is compared with what a C compiler makes of nada.h."""

    def test_structs_have_the_fields_of_the_header_at_the_same_places(self):
        lines, mine = [], []
        for name, struct in nada.STRUCTS.items():
            lines.append('printf("%%zu %s\\n", sizeof(%s));' % (name, name))
            mine.append("%d %s" % (nada.ctypes.sizeof(struct), name))
            for field, _ in struct._fields_:
                lines.append('printf("%%zu %%zu %s.%s\\n", offsetof(%s, %s), sizeof(((%s *)0)->%s));' % ((name, field) * 2 + (name, field)))
                mine.append("%d %d %s.%s" % (getattr(struct, field).offset, getattr(struct, field).size, name, field))
        self.assertEqual(self.run_c(lines), mine)

    def test_constants(self):
        values = {"NADA_ABI_VERSION": nada.ABI_VERSION, "NADA_OK": nada.OK, "NADA_CANCELLED": nada.CANCELLED,
                  "NADA_CONTINUE": nada.CONTINUE, "NADA_STOP": nada.STOP, "NADA_FORMAT_RGBA8": nada.RGBA8,
                  "NADA_FORMAT_BGRA8": nada.BGRA8, "NADA_FORMAT_RGBA16": nada.RGBA16, "NADA_FORMAT_RGBA32F": nada.RGBA32F,
                  "NADA_TRANSFER_SRGB": nada.SRGB, "NADA_TRANSFER_LINEAR": nada.LINEAR, "NADA_NOISE_NONE": nada.NOISE_NONE,
                  "NADA_EDGE_LEFT": nada.EDGE_LEFT, "NADA_EDGE_TOP": nada.EDGE_TOP, "NADA_EDGE_RIGHT": nada.EDGE_RIGHT, "NADA_EDGE_BOTTOM": nada.EDGE_BOTTOM}
        lines = ['printf("%%ld %s\\n", (long)%s);' % (name, name) for name in values]
        self.assertEqual(self.run_c(lines), ["%d %s" % (value, name) for name, value in values.items()])

    def test_functions_have_as_many_parameters(self):
        with open(os.path.join(common.ROOT, "include", "nada.h"), encoding="utf-8") as file:
            text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", file.read(), flags=re.DOTALL)
        declared = {name: 0 if arguments.strip() in ("", "void") else arguments.count(",") + 1
                    for name, arguments in re.findall(r"\b(nada_\w+)\s*\(([^()]*)\)\s*;", text)}
        used = {name: len(arguments) for name, arguments in nada.STATUS_FUNCTIONS.items()}
        used.update((name, len(arguments)) for name, (_, arguments) in nada.VALUE_FUNCTIONS.items())
        used.update(("nada_%s_free" % handle, 1) for handle in nada.HANDLES)
        self.assertEqual({name: declared.get(name) for name in used}, used)

    def run_c(self, lines):
        source = "#include <nada.h>\n#include <stdio.h>\nint main(void) { %s return 0; }" % "\n".join(lines)
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "program")
            subprocess.run(["cc", "-x", "c", "-", "-I", os.path.join(common.ROOT, "include"), "-o", program], input=source.encode(),
                           check=True)
            return subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()


class Loading(unittest.TestCase):
    def test_a_missing_library_says_where_it_was_looked_for(self):
        with self.assertRaisesRegex(nada.LibraryError, "/nowhere/libnada.so: .*NADA_LIBRARY"):
            nada.Library(["/nowhere/libnada.so"])

    def test_another_library_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            file = compile_library(folder, "int something;")
            with self.assertRaisesRegex(nada.LibraryError, "is not libnada"):
                nada.Library([file])

    def test_an_older_abi_and_a_changed_one_are_refused(self):
        for version, word in ((3, "older"), (4 << 16, "newer")):
            with tempfile.TemporaryDirectory() as folder:
                file = compile_library(folder, "unsigned nada_abi_version(void) { return %d; }" % version)
                message = r"ABI version is %d\.%d, the plug-in needs 3\.0: the library is %s" % (version >> 16, version & 0xffff, word)
                with self.assertRaisesRegex(nada.LibraryError, message):
                    nada.Library([file])

    def test_the_next_place_is_tried(self):
        self.assertEqual(nada.Library(["/nowhere/libnada.so", common.LIBRARY]).file, os.path.realpath(common.LIBRARY))

    def test_the_variable_alone_counts_where_it_is_set(self):
        with mock.patch.dict(os.environ, NADA_LIBRARY="/x/libnada.so"):
            self.assertEqual(nada.library_candidates(), ["/x/libnada.so"])

    def test_candles_own_threads_are_off_before_the_library_is_loaded(self):
        code = "import os, common; from libnada import nada; nada.Library(); print(os.environ['CANDLE_NUM_THREADS'])"
        environment = {key: value for key, value in os.environ.items() if key != "CANDLE_NUM_THREADS"}
        out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, cwd=os.path.dirname(__file__),
                             env=environment)
        self.assertEqual(out.stdout.strip(), b"1")

    def test_no_qt_and_no_krita_are_needed(self):
        code = "import sys, common; from libnada import nada, pixels, work; print([m for m in sys.modules if 'PyQt' in m or m == 'krita'])"
        out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, cwd=os.path.dirname(__file__))
        self.assertEqual(out.stdout.strip(), b"[]")


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.library = nada.Library()
        cls.context = nada.Context(cls.library)
        cls.model = cls.context.model("starter")
        cls.generator = cls.model.generator()
        cls.side, cls.rgba = common.face()
        view = nada.view(cls.rgba, cls.side, cls.side, nada.RGBA8)
        cls.image = nada.image_from_square(cls.library, view, cls.generator.size)

    def test_versions(self):
        self.assertRegex(self.library.version, r"^\d+\.\d+\.\d+$")
        self.assertGreaterEqual(self.library.abi, nada.ABI_VERSION)

    def test_an_error_has_the_librarys_message(self):
        with self.assertRaisesRegex(nada.NadaError, "no-such-pack") as caught:
            self.context.model("no-such-pack")
        self.assertEqual(caught.exception.name, "NADA_NOT_FOUND")

    def test_models_are_listed_with_the_starter(self):
        starter = [entry for entry in self.context.models() if entry.name == "starter"]
        self.assertEqual(len(starter), 1)
        self.assertIn("128 px", starter[0].description)
        self.assertTrue(os.path.isfile(os.path.join(starter[0].folder, "model.toml")))

    def test_phrases_are_those_of_the_pack(self):
        phrases = self.model.phrases()
        self.assertIn("a pencil sketch", phrases)
        self.assertEqual(self.model.check_text(phrases[0]), "")
        self.assertIn("xylophone", self.model.check_text("a xylophone"))

    def test_an_image_comes_back_as_it_went_in(self):
        self.assertEqual(self.image.bitmap(nada.RGBA8).data, self.rgba)
        self.assertEqual(self.image.bitmap(nada.BGRA8).data, bytes(common.bgra(self.rgba)))

    def test_a_buffer_that_is_too_small_is_refused(self):
        with self.assertRaisesRegex(ValueError, "too few"):
            nada.view(b"\0" * 15, 2, 2, nada.RGBA8)

    def test_a_misspelt_option_is_refused(self):
        with self.assertRaisesRegex(AttributeError, "stepz"):
            self.generator.invert(self.image, self.model, stepz=1)

    def test_inversion_reports_each_step(self):
        steps = []
        _, psnr = self.generator.invert(self.image, self.model, lambda step, total, loss, preview: steps.append((step, total)), steps=3)
        self.assertEqual(steps, [(1, 3), (2, 3), (3, 3)])
        # Three steps from the mean face: a face, though not this one. (The full search reaches 50 dB and more.)
        self.assertGreater(psnr, 5)

    def test_an_exception_in_a_callback_ends_the_call_and_comes_out_of_it(self):
        calls = []

        def fail(*_):
            calls.append(1)
            raise KeyError("of ours")
        with self.assertRaisesRegex(KeyError, "of ours"):
            self.generator.invert(self.image, self.model, fail, steps=5)
        self.assertEqual(len(calls), 1)
        # And the library works on.
        self.generator.invert(self.image, self.model, steps=1)

    def test_a_callback_that_says_false_cancels(self):
        with self.assertRaises(nada.Cancelled):
            self.generator.invert(self.image, self.model, lambda *_: False, steps=5)

    def test_a_token_cancels_from_another_thread(self):
        token, reached = nada.Cancel(self.library), []
        started = threading.Event()

        def on_progress(step, *_):
            reached.append(step)
            started.set()
        canceller = threading.Thread(target=lambda: (started.wait(), token.trigger()))
        canceller.start()
        with self.assertRaises(nada.Cancelled):
            self.generator.invert(self.image, self.model, on_progress, token, steps=100000)
        canceller.join()
        self.assertLess(len(reached), 100000)

    def test_a_triggered_token_ends_what_is_short_most_of_the_time(self):
        token = nada.Cancel(self.library)
        token.trigger()
        view = nada.view(self.rgba, self.side, self.side, nada.RGBA8)
        with tempfile.TemporaryDirectory() as folder:
            for call in (lambda: self.generator.sample(1, 1, 0.7, token), lambda: self.generator.find_fingerprint(token),
                         lambda: nada.image_from_square(self.library, view, 16, token), lambda: self.context.gallery(folder, token)):
                self.assertRaises(nada.Cancelled, call)
        self.assertRegex(self.generator.fingerprint, "^[0-9a-f]{64}$")

    def test_the_starter_has_no_warning(self):
        self.assertEqual(self.model.warning, "")

    def test_other_python_threads_run_during_a_call(self):
        ticks, stop = [], threading.Event()

        def tick():
            while not stop.is_set():
                ticks.append(1)
                time.sleep(0.001)
        ticker = threading.Thread(target=tick)
        ticker.start()
        try:
            before = len(ticks)
            self.generator.invert(self.image, self.model, steps=10)
            self.assertGreater(len(ticks), before + 5)
        finally:
            stop.set()
            ticker.join()

    def test_domains_are_installed_and_found_again(self):
        adaptation = self.generator.adaptation(self.model, "a photo", "a pencil sketch", steps=1, stop_latents=0, batch=2)
        adaptation.run()
        domain = adaptation.result()
        with tempfile.TemporaryDirectory() as folder:
            gallery = self.context.gallery(os.path.join(folder, "new"))
            self.assertEqual(gallery.entries(), [])
            files = [gallery.install(domain, thumbnail=self.image), gallery.install(domain, "M\u00fcller")]
            gallery = self.context.gallery(os.path.join(folder, "new"))
            entries = gallery.entries()
            self.assertEqual(sorted(entry.file for entry in entries), sorted(files))
            self.assertEqual({entry.target for entry in entries}, {"a pencil sketch"})
            self.assertTrue(all(gallery.fits(i, self.generator) for i in range(2)))
            with_thumbnail = [gallery.thumbnail(i) is not None for i in range(2)]
            self.assertEqual(sorted(with_thumbnail), [False, True])
            self.assertEqual(gallery.skipped, 0)

    def test_a_strength_of_nothing_draws_the_unadapted_picture(self):
        adaptation = self.generator.adaptation(self.model, "a photo", "a zombie", steps=2, stop_latents=0, batch=2)
        adaptation.run()
        domain, latent = adaptation.result(), self.generator.sample(1, 3, 0.7)
        plain = self.generator.render(latent).bitmap().data
        self.assertEqual(self.generator.render(latent, [(domain, 0.0)]).bitmap().data, plain)
        self.assertNotEqual(self.generator.render(latent, [(domain, 1.0)]).bitmap().data, plain)

    def test_handles_are_freed_with_their_objects(self):
        freed = []
        library = mock.Mock()
        library.dll.nada_image_free = freed.append
        image = nada.Image(library, 17)
        self.assertEqual(freed, [])
        del image
        self.assertEqual(freed, [17])


if __name__ == "__main__":
    unittest.main()
