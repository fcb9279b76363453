"""Pixels and the work layer, without Krita, with the built library."""
import os
import random
import struct
import tempfile
import threading
import unittest
from unittest import mock

import common
from libnada import nada, pixels, work


class Pixels(unittest.TestCase):
    def test_u16_is_swapped(self):
        self.assertEqual(bytes(pixels.from_krita(struct.pack("=8H", 3, 2, 1, 4, 30, 20, 10, 40), "U16")),
                         struct.pack("=8H", 1, 2, 3, 4, 10, 20, 30, 40))

    def test_halves_become_floats_and_back(self):
        values = [0.0, 0.5, 1.0, 65504.0, -1.5, 2 ** -24, 0.333251953125, 1.0]
        data = struct.pack("=8e", *values)
        floats = pixels.from_krita(data, "F16")
        self.assertEqual(struct.unpack("=8f", floats), tuple(values))
        self.assertEqual(bytes(pixels.to_krita(floats, "F16")), data)

    def test_every_depth_survives_the_way_there_and_back_also_in_several_bands(self):
        rng = random.Random(1)
        count = 3 * pixels.BAND // 8 + 7
        for depth in pixels.FORMATS:
            if depth == "F16":
                data = struct.pack("=%de" % (4 * count), *(rng.random() for _ in range(4 * count)))
            else:
                data = rng.randbytes(pixels.BYTES[depth] * count)
            there = pixels.from_krita(data, depth)
            self.assertEqual(len(there), count * nada.PIXEL_BYTES[pixels.FORMATS[depth]], depth)
            self.assertEqual(bytes(pixels.to_krita(there, depth)), data, depth)

    def test_alpha_is_multiplied_with_the_mask(self):
        rng = random.Random(2)
        # Runs of 0, of 255 and of what lies between, new lines (10) among it: the mask is searched by a regular expression.
        mask = bytes(3) + b"\xff" * 4 + b"\x0a\x0a\x01\xfe\x80" + bytes(rng.choice([0, 10, 128, 255]) for _ in range(300))
        for kind, format in (("B", nada.BGRA8), ("H", nada.RGBA16), ("f", nada.RGBA32F)):
            values = [rng.random() if kind == "f" else rng.randrange(256 if kind == "B" else 65536) for _ in range(4 * len(mask))]
            data = bytearray(struct.pack("=%d%s" % (len(values), kind), *values))
            before = struct.unpack("=%d%s" % (len(values), kind), data)
            pixels.multiply_alpha(data, format, mask)
            after = struct.unpack("=%d%s" % (len(values), kind), data)
            for i, m in enumerate(mask):
                alpha = before[4 * i + 3] * m / 255
                if kind == "f":
                    # Single precision: half a unit of the last place of numbers below 1.
                    self.assertAlmostEqual(after[4 * i + 3], alpha, delta=2 ** -24)
                else:
                    self.assertEqual(after[4 * i + 3], int(alpha + 0.5), (format, i))
                if m:
                    self.assertEqual(after[4 * i:4 * i + 3], before[4 * i:4 * i + 3])

    def test_a_mask_of_another_size_is_refused(self):
        with self.assertRaisesRegex(ValueError, "2 pixels, the picture 1"):
            pixels.multiply_alpha(bytearray(4), nada.BGRA8, b"\0\0")

    def test_emptiness_is_seen_in_every_depth(self):
        for depth, code, one in (("U8", "B", 255), ("U16", "H", 65535), ("F16", "e", 1.0), ("F32", "f", 1.0)):
            self.assertTrue(pixels.is_empty(struct.pack("=8" + code, *[one, one, one, 0] * 2), depth), depth)
            self.assertFalse(pixels.is_empty(struct.pack("=8" + code, *[0, 0, 0, 0, 0, 0, 0, one]), depth), depth)


class Engine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.engine = work.Engine(cls.folder.name)
        cls.side, cls.rgba = common.face()
        cls.words = work.Wish(target="a pencil sketch", steps=3, inversion_steps=common.FEW_STEPS)
        cls.file = cls.engine.new_domain(cls.words, lambda report: None).file

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.reports = []

    def picture(self, **changes):
        fields = dict(data=common.bgra(self.rgba), side=self.side, depth="U8", transfer=nada.SRGB, edges=15)
        fields.update(changes)
        return work.Picture(**fields)

    def restyle(self, picture=None, cancel=None, **changes):
        wish = self.words._replace(domain=self.file)._replace(**changes)
        return self.engine.restyle(wish, picture or self.picture(), self.reports.append, cancel)

    def stages(self):
        return list(dict.fromkeys(report.stage for report in self.reports))

    def test_a_new_domain_is_in_the_gallery_with_a_thumbnail(self):
        gallery = self.engine.gallery()
        self.assertIn(self.file, [entry.file for entry in gallery.entries])
        thumbnail = gallery.thumbnails[[entry.file for entry in gallery.entries].index(self.file)]
        self.assertEqual(len(thumbnail.data), thumbnail.width * thumbnail.height * 4)

    def test_restyling_gives_pixels_of_the_pictures_size(self):
        result = self.restyle()
        self.assertEqual(len(result.data), self.side * self.side * 4)
        self.assertNotEqual(bytes(result.data), bytes(common.bgra(self.rgba)))
        self.assertEqual(set(result.data[3::4]), {255})
        self.assertEqual((result.label, result.domain), ("a pencil sketch", self.file))

    def test_the_strength_draws_again_without_searching_again(self):
        self.engine._latents.clear()
        first = self.restyle(strength=1.0)
        self.assertEqual(self.stages(), ["Finding the picture in the model", "Drawing"])
        self.reports.clear()
        second = self.restyle(strength=0.3)
        self.assertEqual(self.stages(), ["Drawing"])
        self.assertNotEqual(bytes(first.data), bytes(second.data))
        self.reports.clear()
        other = bytearray(common.bgra(self.rgba))
        other[0:4000] = bytes(4000)
        other[3::4] = b"\xff" * (len(other) // 4)
        self.restyle(self.picture(data=other))
        self.assertIn("Finding the picture in the model", self.stages())

    def test_depths_agree(self):
        # The same picture in 8 and 16 bits and floats; results agree as far as 8 bits tell.
        eight = self.restyle().data
        sixteen = struct.pack("=%dH" % len(eight), *(v * 257 for v in common.bgra(self.rgba)))
        floats = [v / 255 for v in self.rgba]
        cases = {"U16": (sixteen, "H", 257, (2, 1, 0, 3)), "F32": (struct.pack("=%df" % len(floats), *floats), "f", 1 / 255, (0, 1, 2, 3)),
                 "F16": (struct.pack("=%de" % len(floats), *floats), "e", 1 / 255, (0, 1, 2, 3))}
        for depth, (data, code, unit, order) in cases.items():
            result = self.restyle(self.picture(data=bytearray(data), depth=depth)).data
            values = struct.unpack("=%d%s" % (len(eight), code), result)
            if depth == "U16":
                order = (0, 1, 2, 3)
            else:
                order = (2, 1, 0, 3)
            far = max(abs(values[4 * i + order[c]] / unit - eight[4 * i + c]) for i in range(len(eight) // 4) for c in range(4))
            # Rounding to 8 bits is 0.5. Half floats change the input by up to 2^-12, which the search, 12 steps long, hardly amplifies.
            self.assertLess(far, 0.51 if depth != "F16" else 1.5, depth)

    def test_edges_fade_where_the_picture_goes_on(self):
        part = self.restyle(self.picture(edges=nada.EDGE_LEFT)).data
        row = part[self.side // 2 * self.side * 4:][3:self.side * 4:4]
        self.assertEqual((row[0], row[self.side // 2]), (255, 255))
        self.assertLess(row[-1], 128)

    def test_the_mask_limits_the_result(self):
        mask = bytes(255 if x < self.side // 2 else 0 for _ in range(self.side) for x in range(self.side))
        masked, plain = self.restyle(self.picture(mask=mask)).data, self.restyle().data
        for i, m in enumerate(mask):
            self.assertEqual(masked[4 * i:4 * i + 4], plain[4 * i:4 * i + 4] if m else bytes(4), i)

    def test_words_make_a_domain_first_and_show_it_growing(self):
        before = len(self.engine.gallery().entries)
        result = self.restyle(domain="", target="a zombie", steps=5, name="my zombie")
        self.assertEqual(self.stages()[0], "Learning \u201ca zombie\u201d")
        self.assertTrue(any(report.preview for report in self.reports if report.stage.startswith("Learning")))
        self.assertEqual(result.label, "a zombie")
        self.assertIn("zombie", os.path.basename(result.domain))
        self.assertEqual(len(self.engine.gallery().entries), before + 1)

    def test_words_that_the_pack_does_not_know_are_told(self):
        result = self.engine.new_domain(self.words._replace(target="a xylophone", steps=1, install=False), self.reports.append)
        self.assertIn("xylophone", result.warning)
        self.assertEqual(result.file, "")

    def test_a_cancelled_job_leaves_nothing(self):
        before, token = len(self.engine.gallery().entries), self.engine.token()

        def report(report):
            if report.step == 2:
                token.trigger()
        with self.assertRaises(nada.Cancelled):
            self.engine.new_domain(self.words._replace(steps=0), report, token)
        self.assertEqual(len(self.engine.gallery().entries), before)
        # The next job is not cancelled.
        self.restyle()

    def test_reading_a_model_ends_when_its_job_is_cancelled(self):
        engine = work.Engine(self.folder.name)
        token = engine.token()
        token.trigger()
        with self.assertRaises(nada.Cancelled):
            engine.watched(lambda: engine.pack("starter"), token)
        # The next one reads it, and so does a job without a token.
        self.assertEqual(engine.watched(lambda: engine.pack("starter"), engine.token()).size, 128)
        self.assertEqual(work.Engine(self.folder.name).pack("starter").size, 128)

    def test_folders_that_lead_nowhere_are_in_the_log(self):
        before = os.environ["NADA_MODELS"]
        os.environ["NADA_MODELS"] = before + ":/nonexistent/models"
        try:
            engine = work.Engine(self.folder.name)
            self.assertIn("starter", [model.name for model in engine.models()])
            self.assertIn("NADA_MODELS names /nonexistent/models, which does not exist", engine.diagnostics())
        finally:
            os.environ["NADA_MODELS"] = before

    def test_a_job_that_is_cancelled_while_it_draws_gives_nothing(self):
        self.restyle()
        halves = struct.pack("=%de" % len(self.rgba), *(v / 255 for v in self.rgba))
        for picture in (self.picture(), self.picture(data=halves, depth="F16")):
            token = self.engine.token()

            def report(report):
                if report.stage == "Drawing":
                    token.trigger()
            with self.assertRaises(nada.Cancelled):
                self.engine.restyle(self.words._replace(domain=self.file), picture, report, token)

    def test_a_job_that_is_cancelled_before_its_turn_does_nothing(self):
        token = self.engine.token()
        token.trigger()
        with self.assertRaises(nada.Cancelled):
            self.restyle(cancel=token)
        self.assertEqual(self.reports, [])

    def test_previews_are_of_the_last_picture(self):
        self.restyle()
        last = self.engine.preview("starter", self.file, 1.0)
        self.engine._last = None
        face = self.engine.preview("starter", self.file, 1.0)
        self.assertNotEqual(last.data, face.data)
        self.assertEqual(len(last.data), last.width * last.height * 4)

    def test_a_domain_that_is_gone_is_an_error_with_its_name(self):
        with self.assertRaisesRegex(OSError, "gone.safetensors"):
            self.restyle(domain=os.path.join(self.folder.name, "gone.safetensors"))

    def test_diagnostics_say_what_a_bug_report_needs(self):
        self.engine.log.error(ValueError("the last error"))
        text = self.engine.diagnostics(["Krita 5.1.5"])
        for part in ("Krita 5.1.5", self.engine.library.file, "ABI %d" % self.engine.library.abi, "device cpu", "model pack starter",
                     "gallery %s" % self.folder.name, "ValueError: the last error", "new domain", "NADA_LIBRARY="):
            self.assertIn(part, text)

    def test_diagnostics_do_not_wait_for_a_job(self):
        held, done = threading.Event(), threading.Event()

        def hold():
            with self.engine._lock:
                held.set()
                done.wait()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        try:
            self.assertIn("a job is running", self.engine.diagnostics())
        finally:
            done.set()
            holder.join()

    def test_diagnostics_work_without_a_library(self):
        with mock.patch.dict(os.environ, NADA_LIBRARY="/nowhere/libnada.so"):
            self.assertIn("/nowhere/libnada.so", work.Engine().diagnostics())


class Memory(unittest.TestCase):
    def test_what_was_used_last_is_kept(self):
        recent, made = work.Recent(), []

        def make(key):
            return recent.find(key, lambda: made.append(key) or key)
        for key in range(work.KEPT):
            make(key)
        make(0)
        make(work.KEPT)
        self.assertEqual(list(recent), list(range(2, work.KEPT)) + [0, work.KEPT])
        self.assertEqual(made, list(range(work.KEPT + 1)))


if __name__ == "__main__":
    unittest.main()
