"""ctypes binding of nada.h, as far as the plug-in needs it. Knows nothing of Krita or Qt.

Handles free themselves. A call that fails raises NadaError with the library's message; a cancelled one raises Cancelled. Threads as in
nada.h: handles may be used by several threads, and ctypes lets other Python threads run during a call.
"""
import ctypes
import ctypes.util
import os
import sys
import weakref
from collections import namedtuple
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

# NADA_ABI_VERSION of the header that this file describes.
ABI_VERSION = 0x30000

OK, CANCELLED = 0, 7
CONTINUE, STOP = 0, 1
RGB8, RGBA8, BGRA8, GRAY8, RGB16, RGBA16, RGBA32F = range(7)
SRGB, LINEAR = 0, 1
PIXEL_BYTES = {RGB8: 3, RGBA8: 4, BGRA8: 4, GRAY8: 1, RGB16: 6, RGBA16: 8, RGBA32F: 16}
NOISE_CONST, NOISE_NONE = 0, 1
EDGE_LEFT, EDGE_TOP, EDGE_RIGHT, EDGE_BOTTOM = 1, 2, 4, 8


class NadaError(Exception):
    """What a call of the library answered: `status` is its number, `name` such as "NADA_NOT_FOUND"."""

    def __init__(self, status, name, message):
        super().__init__(message or name)
        self.status = status
        self.name = name


class Cancelled(NadaError):
    """The callback or the token said stop."""

    @classmethod
    def here(cls):
        """As the library raises it."""
        return cls(CANCELLED, "NADA_CANCELLED", "cancelled")


class LibraryError(Exception):
    """The library was not found, cannot be loaded, or is too old or too new."""


class ContextOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("device", c_char_p), ("model_folders", POINTER(c_char_p)), ("model_folder_count", c_size_t),
                ("threads", c_uint32), ("reserved", c_uint32), ("memory_limit", c_uint64)]


class AdaptationOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("model", c_void_p),
        ("source_text", c_char_p), ("source_images", POINTER(c_void_p)), ("source_image_count", c_size_t),
        ("target_text", c_char_p), ("target_images", POINTER(c_void_p)), ("target_image_count", c_size_t),
        ("clips", POINTER(c_void_p)), ("clip_weights", POINTER(c_float)), ("clip_count", c_size_t),
        ("templates", POINTER(c_char_p)), ("template_count", c_size_t),
        ("learning_rate", c_double), ("beta2", c_double), ("seed", c_uint64),
        ("mode", c_uint32), ("parameters", c_uint32), ("phase", c_uint32), ("train_to_rgb", c_uint32),
        ("auto_layers_k", c_uint32), ("auto_layers_iterations", c_uint32), ("auto_layers_batch", c_uint32),
        ("steps", c_uint32), ("batch", c_uint32),
        ("losses_direction", c_float), ("losses_global", c_float), ("losses_manifold", c_float), ("losses_in_domain", c_float),
        ("losses_structure", c_float), ("structure_floor", c_float), ("floor", c_float), ("enough", c_float), ("decay", c_uint32),
        ("mixing", c_float), ("truncation", c_float), ("augment", c_uint32), ("clip_resize", c_uint32), ("noise", c_uint32),
        ("snapshot_every", c_uint32), ("stop_latents", c_uint32), ("stop_every", c_uint32), ("stop_pairing", c_float),
        ("stop_structure", c_float), ("stop_patience", c_uint32), ("stop_earliest", c_uint32), ("stop_plateau", c_float),
        ("stop_plateau_steps", c_uint32), ("pool", c_uint32), ("train_resolution", c_uint32), ("memory", c_uint32),
        ("reserved", c_uint32),
    ]


class InversionOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("clip", c_void_p), ("learning_rate", c_double), ("seed", c_uint64), ("space", c_uint32),
                ("steps", c_uint32), ("pyramid_weight", c_float), ("clip_weight", c_float), ("optimise_noise", c_uint32),
                ("noise_regularisation", c_float), ("enough_psnr", c_float), ("reserved", c_uint32), ("encoder", c_void_p),
                ("method", c_uint32), ("rounds", c_uint32)]


class RenderOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("domains", POINTER(c_void_p)), ("strengths", POINTER(c_float)), ("domain_count", c_size_t),
                ("noise_seed", c_uint64), ("truncation", c_float), ("noise", c_uint32)]


class Pixels(ctypes.Structure):
    """nada_pixels and nada_pixels_mut."""
    _fields_ = [("data", c_void_p), ("stride", c_size_t), ("width", c_uint32), ("height", c_uint32), ("format", c_uint32),
                ("transfer", c_uint32)]


class Frame(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("centre_x", c_double), ("centre_y", c_double), ("side", c_double), ("angle", c_double)]


class FrameOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("frame", POINTER(Frame)), ("feather", c_float), ("opacity", c_float), ("replace", c_uint32),
                ("hard_edges", c_uint32)]


class Progress(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("preview", c_void_p), ("step", c_uint32), ("total", c_uint32), ("loss", c_float),
                ("reserved", c_uint32)]


CALLBACK = ctypes.CFUNCTYPE(c_int32, POINTER(Progress), c_void_p)


class Call(ctypes.Structure):
    """What a call that may take long heeds."""
    _fields_ = [("struct_size", c_size_t), ("on_progress", CALLBACK), ("user_data", c_void_p), ("cancel", c_void_p)]

# The C name of each struct, for the test that compares them with the header.
STRUCTS = {
    "nada_context_options": ContextOptions, "nada_adaptation_options": AdaptationOptions, "nada_inversion_options": InversionOptions,
    "nada_render_options": RenderOptions, "nada_pixels": Pixels, "nada_pixels_mut": Pixels, "nada_frame": Frame,
    "nada_frame_options": FrameOptions, "nada_progress": Progress, "nada_call": Call,
}

_TEXT = [c_char_p, c_size_t, POINTER(c_size_t)]
_OUT = POINTER(c_void_p)
_CALL = POINTER(Call)
# Functions that answer with a nada_status.
STATUS_FUNCTIONS = {
    "nada_context_options_init": [POINTER(ContextOptions), c_size_t],
    "nada_context_new": [POINTER(ContextOptions), _OUT],
    "nada_cancel_new": [_OUT],
    "nada_cancel_trigger": [c_void_p],
    "nada_model_list_new": [c_void_p, _OUT],
    "nada_model_open": [c_void_p, c_char_p, _OUT],
    "nada_model_generator": [c_void_p, _CALL, _OUT],
    "nada_model_adaptation_options": [c_void_p, POINTER(AdaptationOptions), c_size_t],
    "nada_model_inversion_options": [c_void_p, POINTER(InversionOptions), c_size_t],
    "nada_model_check_text": [c_void_p, c_char_p, _CALL] + _TEXT,
    "nada_model_phrases": [c_void_p] + _TEXT,
    "nada_adaptation_new": [c_void_p, POINTER(AdaptationOptions), _CALL, _OUT],
    "nada_adaptation_run": [c_void_p, _CALL],
    "nada_adaptation_preview": [c_void_p, c_size_t, _CALL, _OUT],
    "nada_adaptation_result": [c_void_p, _OUT],
    "nada_domain_open": [c_void_p, c_char_p, _CALL, _OUT],
    "nada_image_from_pixels": [POINTER(Pixels), _OUT],
    "nada_image_from_frame": [POINTER(Pixels), POINTER(Frame), c_uint32, _CALL, _OUT],
    "nada_image_to_pixels": [c_void_p, POINTER(Pixels)],
    "nada_generator_invert": [c_void_p, c_void_p, POINTER(InversionOptions), _CALL, _OUT, POINTER(c_float)],
    "nada_generator_fingerprint": [c_void_p, _CALL, POINTER(c_char_p)],
    "nada_generator_sample": [c_void_p, c_size_t, c_uint64, c_float, _CALL, _OUT],
    "nada_generator_render": [c_void_p, c_void_p, POINTER(RenderOptions), _CALL, _OUT, c_size_t],
    "nada_generator_render_frame": [c_void_p, POINTER(Pixels), POINTER(FrameOptions), c_void_p, POINTER(RenderOptions), _CALL,
                                    POINTER(Pixels)],
    "nada_render_options_init": [POINTER(RenderOptions), c_size_t],
    "nada_frame_options_init": [POINTER(FrameOptions), c_size_t],
    "nada_gallery_open": [c_void_p, c_char_p, _CALL, _OUT],
    "nada_gallery_fits": [c_void_p, c_size_t, c_void_p, _CALL, POINTER(c_uint32)],
    "nada_gallery_thumbnail": [c_void_p, c_size_t, _OUT],
    "nada_gallery_domain": [c_void_p, c_size_t, _CALL, _OUT],
    "nada_gallery_install": [c_void_p, c_void_p, c_char_p, c_void_p, _CALL] + _TEXT,
}
# Functions that give a value and cannot fail.
VALUE_FUNCTIONS = {
    "nada_cancel_is_triggered": (c_uint32, [c_void_p]),
    "nada_abi_version": (c_uint32, []),
    "nada_version": (c_char_p, []),
    "nada_status_name": (c_char_p, [c_int32]),
    "nada_last_error_message": (c_char_p, []),
    "nada_context_threads": (c_uint32, [c_void_p]),
    "nada_model_list_count": (c_size_t, [c_void_p]),
    "nada_model_list_name": (c_char_p, [c_void_p, c_size_t]),
    "nada_model_list_folder": (c_char_p, [c_void_p, c_size_t]),
    "nada_model_list_description": (c_char_p, [c_void_p, c_size_t]),
    "nada_model_list_warning": (c_char_p, [c_void_p]),
    "nada_model_name": (c_char_p, [c_void_p]),
    "nada_model_folder": (c_char_p, [c_void_p]),
    "nada_model_description": (c_char_p, [c_void_p]),
    "nada_model_warning": (c_char_p, [c_void_p]),
    "nada_generator_size": (c_uint32, [c_void_p]),
    "nada_adaptation_warning": (c_char_p, [c_void_p]),
    "nada_domain_source": (c_char_p, [c_void_p]),
    "nada_domain_target": (c_char_p, [c_void_p]),
    "nada_image_width": (c_uint32, [c_void_p]),
    "nada_image_height": (c_uint32, [c_void_p]),
    "nada_gallery_folder": (c_char_p, [c_void_p]),
    "nada_gallery_count": (c_size_t, [c_void_p]),
    "nada_gallery_skipped": (c_size_t, [c_void_p]),
    "nada_gallery_name": (c_char_p, [c_void_p, c_size_t]),
    "nada_gallery_file": (c_char_p, [c_void_p, c_size_t]),
    "nada_gallery_source": (c_char_p, [c_void_p, c_size_t]),
    "nada_gallery_target": (c_char_p, [c_void_p, c_size_t]),
}
HANDLES = ["context", "cancel", "model_list", "model", "adaptation", "domain", "image", "latent", "generator", "gallery"]

ModelEntry = namedtuple("ModelEntry", "name folder description")
GalleryEntry = namedtuple("GalleryEntry", "name file source target")
# Straight alpha, rows from the top without gaps.
Bitmap = namedtuple("Bitmap", "width height format data")


def _text(value):
    return (value or b"").decode("utf-8", "replace")


def library_candidates():
    """Where the library is looked for, in order: NADA_LIBRARY alone where it is set, else beside this file, else by the system."""
    if os.environ.get("NADA_LIBRARY"):
        return [os.environ["NADA_LIBRARY"]]
    names = {"win32": ["nada.dll"], "darwin": ["libnada.3.dylib", "libnada.dylib"]}.get(sys.platform, ["libnada.so.3", "libnada.so"])
    here = os.path.dirname(os.path.abspath(__file__))
    beside = [os.path.join(here, name) for name in names if os.path.exists(os.path.join(here, name))]
    return beside + names[:1]


class Library:
    """The loaded library. Raises LibraryError, which says where it was looked for and what was wrong with each."""

    def __init__(self, candidates=None):
        # The library's tensors would start a thread pool of their own beside the library's; it is read when the library is loaded.
        os.environ.setdefault("CANDLE_NUM_THREADS", "1")
        reasons = []
        for file in library_candidates() if candidates is None else candidates:
            try:
                self._load(file)
                return
            except (OSError, LibraryError) as error:
                reasons.append("%s: %s" % (file, error))
        raise LibraryError("libnada was not loaded. " + "; ".join(reasons) + ". Set NADA_LIBRARY to the library's path, put it beside "
                           "the plug-in, or install it.")

    def _load(self, file):
        dll = ctypes.CDLL(file)
        try:
            dll.nada_abi_version.restype = c_uint32
            found = dll.nada_abi_version()
        except AttributeError:
            raise LibraryError("is not libnada: it has no nada_abi_version()") from None
        if found >> 16 != ABI_VERSION >> 16 or found < ABI_VERSION:
            newer = "newer" if found >> 16 > ABI_VERSION >> 16 else "older"
            raise LibraryError("its ABI version is %d.%d, the plug-in needs %d.%d: the library is %s than the plug-in" %
                               (found >> 16, found & 0xffff, ABI_VERSION >> 16, ABI_VERSION & 0xffff, newer))
        for name, (result, arguments) in VALUE_FUNCTIONS.items():
            function = getattr(dll, name)
            function.restype, function.argtypes = result, arguments
        for name, arguments in STATUS_FUNCTIONS.items():
            function = getattr(dll, name)
            function.restype, function.argtypes, function.errcheck = c_int32, arguments, self._check
        for handle in HANDLES:
            function = getattr(dll, "nada_%s_free" % handle)
            function.restype, function.argtypes = None, [c_void_p]
        self.dll = dll
        self.file = self._path(file)
        self.abi = found
        self.version = _text(dll.nada_version())

    def _check(self, status, function, arguments):
        if status != OK:
            kind = Cancelled if status == CANCELLED else NadaError
            raise kind(status, _text(self.dll.nada_status_name(status)), _text(self.dll.nada_last_error_message()))
        return status

    @staticmethod
    def _path(file):
        """The file behind a name that the system found; the name where that is not known."""
        try:
            with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
                paths = [line.split(None, 5)[5].strip() for line in maps if os.path.basename(file) in line]
            return os.path.realpath(file) if os.path.exists(file) else (paths[0] if paths else file)
        except OSError:
            return file


class Handle:
    """An object of the library, freed with this one."""
    kind = None

    def __init__(self, library, pointer):
        self.library = library
        self._as_parameter_ = c_void_p(pointer)
        # Not at exit: another thread may still be inside a call.
        weakref.finalize(self, getattr(library.dll, "nada_%s_free" % self.kind), pointer).atexit = False

    def _make(self, kind, function, *arguments):
        """Calls a function whose last argument is where it puts a handle."""
        pointer = c_void_p()
        getattr(self.library.dll, function)(*arguments, ctypes.byref(pointer))
        return kind(self.library, pointer.value)

    def _string(self, function, *arguments):
        return _text(getattr(self.library.dll, function)(self, *arguments))

    def _long_string(self, function, *arguments):
        """By the protocol of nada_model_check_text(): ask for the size, then for the text."""
        needed = c_size_t()
        call = getattr(self.library.dll, function)
        call(self, *arguments, None, 0, ctypes.byref(needed))
        buffer = ctypes.create_string_buffer(max(needed.value, 1))
        call(self, *arguments, buffer, len(buffer), ctypes.byref(needed))
        return _text(buffer.value)


def _array(kind, values):
    """A C array that keeps `values` alive, or None for none."""
    return (kind * len(values))(*values) if values else None


def _filled(library, kind, function, *owner):
    """An options struct as the library fills it."""
    options = kind()
    getattr(library.dll, function)(*owner, ctypes.byref(options), ctypes.sizeof(options))
    return options


class Cancel(Handle):
    kind = "cancel"

    def __init__(self, library):
        pointer = c_void_p()
        library.dll.nada_cancel_new(ctypes.byref(pointer))
        super().__init__(library, pointer.value)

    def trigger(self):
        self.library.dll.nada_cancel_trigger(self)

    def check(self):
        """Raises Cancelled once it is triggered: for work outside of the library."""
        if self.library.dll.nada_cancel_is_triggered(self):
            raise Cancelled.here()


class Context(Handle):
    kind = "context"

    def __init__(self, library, model_folders=(), threads=0, memory_limit=0):
        options = _filled(library, ContextOptions, "nada_context_options_init")
        folders = _array(c_char_p, [os.fsencode(folder) for folder in model_folders])
        options.model_folders, options.model_folder_count = folders, len(model_folders)
        options.threads, options.memory_limit = threads, memory_limit
        pointer = c_void_p()
        library.dll.nada_context_new(ctypes.byref(options), ctypes.byref(pointer))
        super().__init__(library, pointer.value)

    @property
    def threads(self):
        return self.library.dll.nada_context_threads(self)

    def models(self):
        """The model packs that are found, as ModelEntry."""
        models = self._make(ModelList, "nada_model_list_new", self)
        return [ModelEntry(*(models._string("nada_model_list_" + field, i) for field in ModelEntry._fields))
                for i in range(self.library.dll.nada_model_list_count(models))]

    def models_warning(self):
        """What to tell of folders of packs that lead nowhere, or ""."""
        return self._make(ModelList, "nada_model_list_new", self)._string("nada_model_list_warning")

    def model(self, name):
        return self._make(Model, "nada_model_open", self, os.fsencode(name))

    def domain(self, file, cancel=None):
        return self._make(Domain, "nada_domain_open", self, os.fsencode(file), heeding(cancel))

    def gallery(self, folder=None, cancel=None):
        return self._make(Gallery, "nada_gallery_open", self, os.fsencode(folder) if folder else None, heeding(cancel))


class ModelList(Handle):
    kind = "model_list"


class Model(Handle):
    kind = "model"

    @property
    def name(self):
        return self._string("nada_model_name")

    @property
    def folder(self):
        return self._string("nada_model_folder")

    @property
    def description(self):
        return self._string("nada_model_description")

    @property
    def warning(self):
        """What the pack says that this version does not know, or ""."""
        return self._string("nada_model_warning")

    def phrases(self):
        """What the pack's CLIPs know; none where they know natural language."""
        return self._long_string("nada_model_phrases").splitlines()

    def check_text(self, text):
        """A sentence on the words that the pack does not know, or ""."""
        return self._long_string("nada_model_check_text", text.encode(), None)

    def generator(self, cancel=None):
        return self._make(Generator, "nada_model_generator", self, heeding(cancel))

    def adaptation_options(self):
        return _filled(self.library, AdaptationOptions, "nada_model_adaptation_options", self)

    def inversion_options(self):
        return _filled(self.library, InversionOptions, "nada_model_inversion_options", self)


class Image(Handle):
    kind = "image"

    @property
    def size(self):
        return self.library.dll.nada_image_width(self), self.library.dll.nada_image_height(self)

    def bitmap(self, format=RGBA8):
        """A copy of the pixels in sRGB."""
        width, height = self.size
        data = bytearray(width * height * PIXEL_BYTES[format])
        self.library.dll.nada_image_to_pixels(self, view(data, width, height, format))
        return Bitmap(width, height, format, bytes(data))


class Borrowed(Image):
    """An image that belongs to the library: not freed."""

    def __init__(self, library, pointer):
        self.library = library
        self._as_parameter_ = c_void_p(pointer)


class Latent(Handle):
    kind = "latent"


class Domain(Handle):
    kind = "domain"

    @property
    def source(self):
        return self._string("nada_domain_source")

    @property
    def target(self):
        return self._string("nada_domain_target")


class Gallery(Handle):
    """The folder of installed domains as it was when it was opened."""
    kind = "gallery"

    @property
    def folder(self):
        return self._string("nada_gallery_folder")

    @property
    def skipped(self):
        return self.library.dll.nada_gallery_skipped(self)

    def entries(self):
        return [GalleryEntry(*(self._string("nada_gallery_" + field, i) for field in GalleryEntry._fields))
                for i in range(self.library.dll.nada_gallery_count(self))]

    def thumbnail(self, index):
        """An Image, or None where the domain has none."""
        pointer = c_void_p()
        self.library.dll.nada_gallery_thumbnail(self, index, ctypes.byref(pointer))
        return Image(self.library, pointer.value) if pointer.value else None

    def fits(self, index, generator, cancel=None):
        """Whether domain `index` was made of the generator."""
        fits = c_uint32()
        self.library.dll.nada_gallery_fits(self, index, generator, heeding(cancel), ctypes.byref(fits))
        return bool(fits.value)

    def install(self, domain, name=None, thumbnail=None, cancel=None):
        """The path of the file that was written."""
        buffer, needed = ctypes.create_string_buffer(4096), c_size_t()
        self.library.dll.nada_gallery_install(self, domain, name.encode() if name else None, thumbnail, heeding(cancel), buffer,
                                              len(buffer), ctypes.byref(needed))
        return _text(buffer.value)


def heeding(cancel):
    """The Call that a Cancel ends; None for None. It is to live until the call returns."""
    return Call(ctypes.sizeof(Call), CALLBACK(), None, cancel._as_parameter_) if cancel else None


class Watch:
    """The Call with a progress callback. An exception in Python must not cross C: it ends the call, and leaving the block raises it."""

    def __init__(self, library, on_progress, cancel):
        self._error = None

        def called(progress, _):
            try:
                state = progress.contents
                preview = Borrowed(library, state.preview) if state.preview else None
                go_on = on_progress is None or on_progress(state.step, state.total, state.loss, preview) is not False
                return CONTINUE if go_on else STOP
            except BaseException as error:
                self._error = error
                return STOP
        self._call = Call(ctypes.sizeof(Call), CALLBACK(called), None, cancel._as_parameter_ if cancel else None)

    def __enter__(self):
        return self._call

    def __exit__(self, kind, error, trace):
        if self._error is not None:
            raise self._error


class Adaptation(Handle):
    kind = "adaptation"

    @property
    def warning(self):
        return self._string("nada_adaptation_warning")

    def run(self, on_progress=None, cancel=None):
        with Watch(self.library, on_progress, cancel) as call:
            self.library.dll.nada_adaptation_run(self, call)

    def preview(self, count, cancel=None):
        return self._make(Image, "nada_adaptation_preview", self, count, heeding(cancel))

    def result(self):
        return self._make(Domain, "nada_adaptation_result", self)


class Generator(Handle):
    kind = "generator"

    @property
    def size(self):
        return self.library.dll.nada_generator_size(self)

    @property
    def fingerprint(self):
        """What tells generators apart. Takes a while the first time, for a large one."""
        return self.find_fingerprint()

    def find_fingerprint(self, cancel=None):
        found = c_char_p()
        self.library.dll.nada_generator_fingerprint(self, heeding(cancel), ctypes.byref(found))
        return _text(found.value)

    def adaptation(self, model, source, target, cancel=None, **changes):
        """An adaptation by `model`'s recipe to words; `changes` are fields of nada_adaptation_options."""
        options = model.adaptation_options()
        source, target = source.encode(), target.encode()
        options.source_text, options.target_text = source, target
        _change(options, changes)
        return self._make(Adaptation, "nada_adaptation_new", self, ctypes.byref(options), heeding(cancel))

    def invert(self, image, model, on_progress=None, cancel=None, **changes):
        """The latent of an Image and how close it comes, in dB; `changes` are fields of nada_inversion_options."""
        options = model.inversion_options()
        _change(options, changes)
        latent, psnr = c_void_p(), c_float()
        with Watch(self.library, on_progress, cancel) as call:
            self.library.dll.nada_generator_invert(self, image, ctypes.byref(options), call, ctypes.byref(latent), ctypes.byref(psnr))
        return Latent(self.library, latent.value), psnr.value

    def sample(self, count, seed, truncation, cancel=None):
        return self._make(Latent, "nada_generator_sample", self, count, seed, truncation, heeding(cancel))

    def render(self, latent, domains=(), cancel=None):
        """The Image of a latent of one point. `domains`: pairs of Domain and strength."""
        options, _keep = self._render_options(domains)
        pointer = c_void_p()
        self.library.dll.nada_generator_render(self, latent, ctypes.byref(options), heeding(cancel), ctypes.byref(pointer), 1)
        return Image(self.library, pointer.value)

    def render_frame(self, source, latent, domains, target, cancel=None, **changes):
        """Draws into `target`, a Pixels of the size of `source`; `changes` are fields of nada_frame_options."""
        options, _keep = self._render_options(domains)
        self.library.dll.nada_generator_render_frame(self, source, frame_options(self.library, **changes), latent,
                                                     ctypes.byref(options), heeding(cancel), target)

    def _render_options(self, domains):
        options = _filled(self.library, RenderOptions, "nada_render_options_init")
        handles = _array(c_void_p, [domain._as_parameter_.value for domain, _ in domains])
        strengths = _array(c_float, [strength for _, strength in domains])
        options.domains, options.strengths, options.domain_count = handles, strengths, len(domains)
        # As the search for the latent draws; noise maps that it found win over this.
        options.noise = NOISE_NONE
        return options, (handles, strengths, domains)


def _change(options, changes):
    for field, value in changes.items():
        # A misspelt field would only become an attribute of the Python object.
        if not hasattr(options, field):
            raise AttributeError("%s has no field %s" % (type(options).__name__, field))
        setattr(options, field, value)


def frame_options(library, **changes):
    options = _filled(library, FrameOptions, "nada_frame_options_init")
    _change(options, changes)
    return options


def view(data, width, height, format, transfer=SRGB):
    """A Pixels on a buffer without gaps between its rows: bytes to read from, a bytearray to read from or to write to."""
    stride = width * PIXEL_BYTES[format]
    if len(data) < stride * height:
        raise ValueError("%d bytes are too few for %d x %d pixels of format %d" % (len(data), width, height, format))
    if isinstance(data, bytes):
        keep, address = data, ctypes.cast(data, c_void_p).value
    else:
        keep = (ctypes.c_char * len(data)).from_buffer(data)
        address = ctypes.addressof(keep)
    pixels = Pixels(address, stride, width, height, format, transfer)
    # Nothing else keeps the buffer where it is.
    pixels.keep = keep
    return pixels


def image_from_square(library, pixels, max_size, cancel=None):
    """The largest centred square of `pixels` as an Image of at most `max_size` pixels a side."""
    pointer = c_void_p()
    library.dll.nada_image_from_frame(pixels, None, max_size, heeding(cancel), ctypes.byref(pointer))
    return Image(library, pointer.value)
