/*
 * libnada for C++17: nada.h with handles that free themselves, exceptions, strings, and std::function as callbacks. Header only.
 *
 *     nada::context context;
 *     nada::model model(context);                             // the starter
 *     nada::generator generator = model.generator();
 *     nada_adaptation_options options = model.adaptation_options();
 *     options.target_text = "a pencil sketch";
 *     nada::domain domain = generator.adapt(options);
 *     generator.restyle(nada::image::open("face.png"), {{&domain}}).save_png("sketch.png");
 *
 * What holds everywhere:
 * - A call that fails throws nada::error, with the status and the message. What nada.h says of threads and lifetimes holds here too.
 * - Handles can be moved, not copied; get() gives the C handle. One that was moved from is empty: its calls throw NADA_INVALID_ARGUMENT.
 * - Options are the structs of nada.h, filled by the functions below; strings and arrays in them are borrowed until the call returns.
 * - Calls that may take long take a nada::call {progress callback, cancel token}, both optional. A progress callback returns whether to go
 *   on. What it throws stops the call and is thrown again from it.
 * - What is numbered in C is a range here: `for (nada::entry e : gallery)`, `for (auto m : nada::model_list(context))`,
 *   `for (nada_layer l : generator.layers())`. Arrays are taken as nada::view<T>, which is std::span<const T> in C++20; in C++17 it is
 *   made of a vector, an array or a pointer and a size.
 * - The first handle that is made checks that the library and the header fit together (nada_abi_check).
 */
#ifndef NADA_HPP
#define NADA_HPP

#include <nada.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L
#include <span>
#endif

namespace nada {

#if __cplusplus >= 202002L
template <typename T>
using view = std::span<const T>;
#else
/* As much of std::span<const T> as is needed here. */
template <typename T>
class view {
public:
    view() noexcept : data_(nullptr), size_(0) {}
    view(const T *data, size_t size) noexcept : data_(data), size_(size) {}
    view(const std::vector<T> &values) noexcept : data_(values.data()), size_(values.size()) {}
    template <size_t Size>
    view(const T (&values)[Size]) noexcept : data_(values), size_(Size) {}
    const T *data() const noexcept { return data_; }
    size_t size() const noexcept { return size_; }
    const T *begin() const noexcept { return data_; }
    const T *end() const noexcept { return data_ + size_; }

private:
    const T *data_;
    size_t size_;
};
#endif

class error : public std::runtime_error {
public:
    /* What the last call that failed on this thread left. */
    error(nada_status status, const char *message) : std::runtime_error(message), status_(status) {
        nada_error last;
        if (nada_last_error(&last, sizeof last) != NADA_OK || last.status != status) return;
        file_ = last.file, key_ = last.key, argument_ = last.argument, needed_ = last.needed, memory_ = last.memory;
    }
    nada_status status() const noexcept { return status_; }
    /* The parts of nada_error: "" where there is nothing to say. */
    const std::string &file() const noexcept { return file_; }
    const std::string &key() const noexcept { return key_; }
    const std::string &argument() const noexcept { return argument_; }
    const std::string &needed() const noexcept { return needed_; }
    uint64_t memory() const noexcept { return memory_; }
    /* Such as "NADA_NOT_FOUND". */
    const char *name() const noexcept { return nada_status_name(static_cast<int32_t>(status_)); }

private:
    nada_status status_;
    std::string file_, key_, argument_, needed_;
    uint64_t memory_ = 0;
};

/* Throws what a call of nada.h on this thread said. */
inline void check(nada_status status) {
    if (status != NADA_OK) throw error(status, nada_last_error_message());
}

/* Told after each step; false ends the call, which throws NADA_CANCELLED. */
using progress = std::function<bool(const nada_progress &)>;

namespace detail {

/* Throws NADA_MISMATCH where the library that is loaded does not serve this header. */
inline void check_abi() {
    static const bool once = (nada::check(nada_abi_check(NADA_ABI_VERSION)), true);
    static_cast<void>(once);
}

template <typename T, void (*Free)(T *)>
class handle {
public:
    using type = T;
    /* Takes over what a call of nada.h gave. */
    explicit handle(T *pointer) noexcept : pointer_(pointer) {}
    handle(handle &&other) noexcept : pointer_(other.release()) {}
    handle &operator=(handle &&other) noexcept {
        if (this != &other) {
            Free(pointer_);
            pointer_ = other.release();
        }
        return *this;
    }
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;
    ~handle() { Free(pointer_); }

    T *get() const noexcept { return pointer_; }
    explicit operator bool() const noexcept { return pointer_ != nullptr; }
    /* The caller frees it. */
    T *release() noexcept { return std::exchange(pointer_, nullptr); }

private:
    T *pointer_;
};

/* Calls a function whose last argument is where its handle goes. */
template <typename T, typename Function, typename... Arguments>
T *made(Function function, Arguments... arguments) {
    check_abi();
    T *pointer = nullptr;
    nada::check(function(arguments..., &pointer));
    return pointer;
}

/* A struct filled by a function that takes its size. */
template <typename T, typename Function, typename... Arguments>
T filled(Function function, Arguments... arguments) {
    check_abi();
    T options;
    nada::check(function(arguments..., &options, sizeof options));
    return options;
}

/* A text by the protocol of nada_model_check_text(). */
template <typename Call>
std::string text(Call call) {
    size_t needed = 0;
    nada::check(call(nullptr, 0, &needed));
    std::string text(needed, '\0');
    nada::check(call(text.data(), text.size(), &needed));
    text.resize(needed - 1);
    return text;
}

/* The elements 0 to count of something, each made when it is asked for. `Owner` outlives its iterators. */
template <typename Owner, typename Element>
class iterator {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Element;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Element;
    iterator() noexcept : owner_(nullptr), index_(0) {}
    iterator(const Owner *owner, size_t index) noexcept : owner_(owner), index_(index) {}
    Element operator*() const { return (*owner_)[index_]; }
    iterator &operator++() noexcept { return ++index_, *this; }
    iterator operator++(int) noexcept {
        iterator before = *this;
        return ++index_, before;
    }
    bool operator==(const iterator &other) const noexcept { return index_ == other.index_; }
    bool operator!=(const iterator &other) const noexcept { return index_ != other.index_; }

private:
    const Owner *owner_;
    size_t index_;
};

/* Carries a std::function, and what it throws, through C. */
class callback {
public:
    callback(const progress &function, const nada_cancel *cancel) : function_(function) {
        call_.struct_size = sizeof call_;
        call_.on_progress = function ? tell : nullptr;
        call_.user_data = this;
        call_.cancel = cancel;
    }
    callback(const callback &) = delete;
    callback &operator=(const callback &) = delete;
    const nada_call *get() const noexcept { return &call_; }
    void finish(nada_status status) {
        if (thrown_) std::rethrow_exception(thrown_);
        nada::check(status);
    }

private:
    static nada_flow tell(const nada_progress *progress, void *self) noexcept {
        callback &me = *static_cast<callback *>(self);
        try {
            return me.function_(*progress) ? NADA_CONTINUE : NADA_STOP;
        } catch (...) {
            me.thrown_ = std::current_exception();
            return NADA_STOP;
        }
    }
    const progress &function_;
    nada_call call_;
    std::exception_ptr thrown_;
};

template <typename Handle>
typename Handle::type *get(const Handle *handle) noexcept {
    return handle ? handle->get() : nullptr;
}

} // namespace detail

/* What options are before they are changed. */
inline nada_context_options context_options() { return detail::filled<nada_context_options>(nada_context_options_init); }
inline nada_adaptation_options adaptation_options() { return detail::filled<nada_adaptation_options>(nada_adaptation_options_init); }
inline nada_inversion_options inversion_options() { return detail::filled<nada_inversion_options>(nada_inversion_options_init); }
/* By the names of docs/settings.md: set(options, "losses.structure", "400"). */
inline void set(nada_adaptation_options &options, const std::string &name, const std::string &value) {
    check(nada_adaptation_options_set(&options, name.c_str(), value.c_str()));
}
inline void set(nada_inversion_options &options, const std::string &name, const std::string &value) {
    check(nada_inversion_options_set(&options, name.c_str(), value.c_str()));
}
inline nada_render_options render_options() { return detail::filled<nada_render_options>(nada_render_options_init); }
inline nada_frame_options frame_options() { return detail::filled<nada_frame_options>(nada_frame_options_init); }
/* A square around a point, in pixels, turned clockwise by degrees. */
inline nada_frame frame(double centre_x, double centre_y, double side, double angle = 0) {
    return {sizeof(nada_frame), centre_x, centre_y, side, angle};
}

/* The square around a face. */
inline nada_frame frame(const nada_face &face) { return frame(face.centre_x, face.centre_y, face.side, face.angle); }
inline std::string version() { return nada_version(); }

/* A flag that any thread may raise. */
class cancel : public detail::handle<nada_cancel, nada_cancel_free> {
public:
    cancel() : handle(detail::made<nada_cancel>(nada_cancel_new)) {}
    void trigger() const { check(nada_cancel_trigger(get())); }
    void reset() const { check(nada_cancel_reset(get())); }
    bool is_triggered() const noexcept { return nada_cancel_is_triggered(get()) != 0; }
};

/* What a call that may take long heeds; nothing special where it is left out. */
struct call {
    call() = default;
    call(progress on_progress, const nada::cancel *cancel = nullptr) : on_progress(std::move(on_progress)), cancel(cancel) {}
    template <typename Function, typename = std::enable_if_t<std::is_invocable_r_v<bool, Function, const nada_progress &>>>
    call(Function on_progress, const nada::cancel *cancel = nullptr) : on_progress(std::move(on_progress)), cancel(cancel) {}
    call(const nada::cancel &cancel) : cancel(&cancel) {}

    progress on_progress;
    const nada::cancel *cancel = nullptr;
};

namespace detail {
/* Runs a call of nada.h with what `call` says. */
template <typename Function>
void heeding(const call &call, Function function) {
    check_abi();
    callback callback(call.on_progress, get(call.cancel));
    callback.finish(function(callback.get()));
}

/* The same of one whose last arguments are the nada_call and where its handle goes. */
template <typename T, typename Function, typename... Arguments>
T *made_heeding(const call &call, Function function, Arguments... arguments) {
    T *pointer = nullptr;
    heeding(call, [&](const nada_call *heeded) { return function(arguments..., heeded, &pointer); });
    return pointer;
}

/* The C strings of strings, which they borrow. */
inline std::vector<const char *> strings(view<std::string> texts) {
    std::vector<const char *> pointers;
    for (const std::string &text : texts) pointers.push_back(text.c_str());
    return pointers;
}
} // namespace detail

/* Has `callback` told what the library logs, up to `level`; an empty one for nobody. It is called from any thread and must not throw. */
inline void set_log(std::function<void(nada_log_level, const char *)> callback, nada_log_level level = NADA_LOG_INFO) {
    static std::function<void(nada_log_level, const char *)> kept;
    detail::check_abi();
    /* After this the one before is not called any more. */
    check(nada_log_set_callback(nullptr, nullptr, NADA_LOG_OFF));
    kept = std::move(callback);
    if (!kept) return;
    const auto tell = [](nada_log_level line, const char *message, void *data) {
        (*static_cast<std::function<void(nada_log_level, const char *)> *>(data))(line, message);
    };
    check(nada_log_set_callback(tell, &kept, level));
}

class context : public detail::handle<nada_context, nada_context_free> {
public:
    context() : handle(detail::made<nada_context>(nada_context_new, nullptr)) {}
    explicit context(const nada_context_options &options) : handle(detail::made<nada_context>(nada_context_new, &options)) {}
    uint32_t threads() const noexcept { return nada_context_threads(get()); }
};

class image : public detail::handle<nada_image, nada_image_free> {
public:
    using handle::handle;
    static image open(const std::string &file, const call &call = {}) {
        return image(detail::made_heeding<nada_image>(call, nada_image_open, file.c_str()));
    }
    /* Its largest centred square, of at most max_size pixels a side; 0 for as many as it has. */
    static image open_square(const std::string &file, uint32_t max_size, const call &call = {}) {
        return image(detail::made_heeding<nada_image>(call, nada_image_open_square, file.c_str(), max_size));
    }
    /* Of the bytes of a file. */
    static image open(view<unsigned char> bytes, const call &call = {}) {
        return image(detail::made_heeding<nada_image>(call, nada_image_open_memory, bytes.data(), bytes.size(), nullptr));
    }
    std::string warning() const { return nada_image_warning(get()); }
    static image from_pixels(const nada_pixels &pixels) { return image(detail::made<nada_image>(nada_image_from_pixels, &pixels)); }
    /* A frame, upright, or the largest centred square; at most max_size pixels a side, 0 for as many as it has. */
    static image from_frame(const nada_pixels &pixels, const nada_frame &frame, uint32_t max_size = 0, const call &call = {}) {
        return image(detail::made_heeding<nada_image>(call, nada_image_from_frame, &pixels, &frame, max_size));
    }
    /* A frame of a photo as FFHQ's pictures were made. */
    static image from_face(const context &context, const nada_pixels &photo, const nada_frame &frame, uint32_t size, uint32_t samples = 0,
                           const call &call = {}) {
        return image(detail::made_heeding<nada_image>(call, nada_image_from_face, context.get(), &photo, &frame, size, samples));
    }
    static image from_frame(const nada_pixels &pixels, uint32_t max_size = 0, const call &call = {}) {
        return image(detail::made_heeding<nada_image>(call, nada_image_from_frame, &pixels, nullptr, max_size));
    }
    void to_pixels(const nada_pixels_mut &pixels) const { check(nada_image_to_pixels(get(), &pixels)); }
    void save_png(const std::string &file, const call &call = {}) const {
        detail::heeding(call, [&](const nada_call *heeded) { return nada_image_save_png(get(), file.c_str(), heeded); });
    }
    uint32_t width() const noexcept { return nada_image_width(get()); }
    uint32_t height() const noexcept { return nada_image_height(get()); }
};

/* The faces of a photo, the surest first; a range of nada_face. */
class faces : public detail::handle<nada_faces, nada_faces_free> {
public:
    /* At least min_face pixels wide; 0 for what suits the photo. */
    faces(const context &context, const nada_pixels &photo, uint32_t min_face = 0, const call &call = {})
        : handle(detail::made_heeding<nada_faces>(call, nada_faces_find, context.get(), &photo, min_face)) {}
    using iterator = detail::iterator<faces, nada_face>;
    size_t size() const noexcept { return nada_faces_count(get()); }
    nada_face operator[](size_t index) const { return detail::filled<nada_face>(nada_faces_get, get(), index); }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }
};

/* Puts a drawn square back into a frame; with a reconstruction only its difference to that. */
inline void put_back(const context &context, const nada_pixels &source, const nada_frame &frame, const image &edit, const nada_pixels_mut &target,
                     const image *reconstruction = nullptr, float feather = -1) {
    check(nada_image_put_back(context.get(), &source, &frame, edit.get(), detail::get(reconstruction), feather, &target));
}

/* Goes into nada_inversion_options::encoder, which borrows it. */
class encoder : public detail::handle<nada_encoder, nada_encoder_free> {
public:
    using handle::handle;
    encoder(const context &context, const std::string &file, const call &call = {})
        : handle(detail::made_heeding<nada_encoder>(call, nada_encoder_open, context.get(), file.c_str())) {}
};

class clip : public detail::handle<nada_clip, nada_clip_free> {
public:
    using handle::handle;
    clip(const context &context, const std::string &file, const call &call = {})
        : handle(detail::made_heeding<nada_clip>(call, nada_clip_open, context.get(), file.c_str())) {}
    clip(const context &context, const std::string &file, nada_activation activation, const call &call = {})
        : handle(detail::made_heeding<nada_clip>(call, nada_clip_open_as, context.get(), file.c_str(), activation)) {}
    /* Of the bytes of a file. */
    clip(const context &context, view<unsigned char> bytes, nada_activation activation = NADA_ACTIVATION_OF_FILE, const call &call = {})
        : handle(detail::made_heeding<nada_clip>(call, nada_clip_open_memory, context.get(), bytes.data(), bytes.size(), nullptr,
                                                 activation)) {}
    std::string name() const { return nada_clip_name(get()); }
    std::string warning() const { return nada_clip_warning(get()); }
    uint32_t resolution() const noexcept { return nada_clip_resolution(get()); }
    uint32_t dimension() const noexcept { return nada_clip_dimension(get()); }
    /* dimension() numbers for each text, normalised; inside the templates, or as it stands without any. */
    std::vector<float> embed(view<std::string> words, view<std::string> templates = {}, const call &call = {}) const {
        const std::vector<const char *> texts = detail::strings(words), prompts = detail::strings(templates);
        std::vector<float> rows(texts.size() * dimension());
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_clip_embed_texts(get(), texts.data(), texts.size(), prompts.data(), prompts.size(), heeded, rows.data(), rows.size());
        });
        return rows;
    }
    /* dimension() numbers, normalised. */
    std::vector<float> embed(const image &picture, nada_clip_resize resize = NADA_CLIP_RESIZE_ANTIALIAS, const call &call = {}) const {
        const nada_image *one = picture.get();
        std::vector<float> row(dimension());
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_clip_embed_images(get(), &one, 1, resize, heeded, row.data(), row.size());
        });
        return row;
    }
    /* The cosine of the picture to each text. */
    std::vector<float> score(const image &picture, view<std::string> words, view<std::string> templates = {}, const call &call = {}) const {
        const std::vector<const char *> texts = detail::strings(words), prompts = detail::strings(templates);
        const nada_image *one = picture.get();
        std::vector<float> cosines(texts.size());
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_clip_score(get(), &one, 1, texts.data(), texts.size(), prompts.data(), prompts.size(), heeded, cosines.data(),
                                   cosines.size());
        });
        return cosines;
    }
};

class latent : public detail::handle<nada_latent, nada_latent_free> {
public:
    using handle::handle;
    latent(const context &context, const std::string &file, nada_space space, const call &call = {})
        : handle(detail::made_heeding<nada_latent>(call, nada_latent_open, context.get(), file.c_str(), space)) {}
    /* Of the bytes of a file. */
    latent(const context &context, view<unsigned char> bytes, nada_space space, const call &call = {})
        : handle(detail::made_heeding<nada_latent>(call, nada_latent_open_memory, context.get(), bytes.data(), bytes.size(), nullptr,
                                                   space)) {}
    latent(const context &context, nada_space space, const float *data, size_t count, size_t rows, size_t dimension)
        : handle(detail::made<nada_latent>(nada_latent_from_data, context.get(), space, data, count, rows, dimension)) {}
    void save(const std::string &file, const call &call = {}) const {
        detail::heeding(call, [&](const nada_call *heeded) { return nada_latent_save(get(), file.c_str(), heeded); });
    }
    nada_space space() const {
        nada_space space = NADA_SPACE_Z;
        check(nada_latent_space(get(), &space));
        return space;
    }
    size_t count() const noexcept { return nada_latent_count(get()); }
    size_t rows() const noexcept { return nada_latent_rows(get()); }
    size_t dimension() const noexcept { return nada_latent_dimension(get()); }
    std::vector<float> data() const {
        std::vector<float> data(count() * rows() * dimension());
        check(nada_latent_copy_data(get(), data.data(), data.size()));
        return data;
    }
};

class domain : public detail::handle<nada_domain, nada_domain_free> {
public:
    using handle::handle;
    domain(const context &context, const std::string &file, const call &call = {})
        : handle(detail::made_heeding<nada_domain>(call, nada_domain_open, context.get(), file.c_str())) {}
    /* Of the bytes of a file. */
    domain(const context &context, view<unsigned char> bytes, const call &call = {})
        : handle(detail::made_heeding<nada_domain>(call, nada_domain_open_memory, context.get(), bytes.data(), bytes.size(), nullptr)) {}
    void save(const std::string &file, const call &call = {}) const {
        detail::heeding(call, [&](const nada_call *heeded) { return nada_domain_save(get(), file.c_str(), heeded); });
    }
    std::string source() const { return nada_domain_source(get()); }
    std::string target() const { return nada_domain_target(get()); }
    std::string fingerprint() const { return nada_domain_fingerprint(get()); }
    std::string origin() const { return nada_domain_origin(get()); }
    domain to_half(const call &call = {}) const { return domain(detail::made_heeding<nada_domain>(call, nada_domain_to_half, get())); }
    uint32_t step() const noexcept { return nada_domain_step(get()); }
    nada_parameters parameters() const {
        nada_parameters parameters = NADA_PARAMETERS_FULL;
        check(nada_domain_parameters(get(), &parameters));
        return parameters;
    }
    std::vector<std::string> clips() const {
        std::vector<std::string> names;
        for (size_t i = 0; i < nada_domain_clip_count(get()); i++) {
            const char *name = nullptr;
            check(nada_domain_clip_name(get(), i, &name));
            names.emplace_back(name);
        }
        return names;
    }
};

/* A domain and how much of it, in [0, 1.5]. */
struct applied {
    const domain *what;
    float strength = 1.0f;
};

/* How latents are drawn: the options of nada.h, with the domains in front. */
class drawing {
public:
    drawing(std::initializer_list<applied> domains = {}) : drawing(std::vector<applied>(domains), {}) {}
    drawing(const std::vector<applied> &domains, const std::optional<nada_render_options> &options) : options_(options) {
        for (const applied &d : domains) {
            domains_.push_back(detail::get(d.what));
            strengths_.push_back(d.strength);
        }
    }
    drawing(std::initializer_list<applied> domains, const nada_render_options &options)
        : drawing(std::vector<applied>(domains), std::optional<nada_render_options>(options)) {}

    /* For functions that draw what was searched for, as nada_generator_restyle() does without options: no noise but the latent's own. */
    nada_render_options after_search() const { return options(NADA_NOISE_NONE); }
    nada_render_options plain() const { return options(NADA_NOISE_CONST); }

private:
    nada_render_options options(nada_noise noise) const {
        nada_render_options options = options_ ? *options_ : render_options();
        if (!options_) options.noise = noise;
        options.domains = domains_.data();
        options.strengths = strengths_.data();
        options.domain_count = domains_.size();
        return options;
    }
    std::optional<nada_render_options> options_;
    std::vector<const nada_domain *> domains_;
    std::vector<float> strengths_;
};

/* A latent, and how close its picture comes, in dB. */
struct inversion {
    latent found;
    float psnr;
};

/* A range of nada_layer, in the order of drawing; borrows a generator. */
class layers {
public:
    using iterator = detail::iterator<layers, nada_layer>;
    explicit layers(const nada_generator *generator) noexcept : generator_(generator) {}
    size_t size() const noexcept { return nada_generator_layer_count(generator_); }
    nada_layer operator[](size_t index) const { return detail::filled<nada_layer>(nada_generator_layer, generator_, index); }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }

private:
    const nada_generator *generator_;
};

class generator : public detail::handle<nada_generator, nada_generator_free> {
public:
    using handle::handle;
    generator(const context &context, const std::string &file, const call &call = {})
        : handle(detail::made_heeding<nada_generator>(call, nada_generator_open, context.get(), file.c_str())) {}
    /* Of the bytes of a file. */
    generator(const context &context, view<unsigned char> bytes, const call &call = {})
        : handle(detail::made_heeding<nada_generator>(call, nada_generator_open_memory, context.get(), bytes.data(), bytes.size(),
                                                      nullptr)) {}
    void save(const std::string &file, nada_layout layout = NADA_LAYOUT_NADA, bool half = false, const call &call = {}) const {
        detail::heeding(call,
                        [&](const nada_call *heeded) { return nada_generator_save(get(), file.c_str(), layout, half, heeded); });
    }
    /* Whether a domain was made of this generator. */
    bool fits(const domain &domain, const call &call = {}) const {
        uint32_t fits = 0;
        detail::heeding(call, [&](const nada_call *heeded) { return nada_domain_fits(domain.get(), get(), heeded, &fits); });
        return fits != 0;
    }
    /* A domain of a relative of this generator, for this one. */
    domain taken(const domain &other, const call &call = {}) const {
        return domain(detail::made_heeding<nada_domain>(call, nada_domain_for_generator, other.get(), get()));
    }
    /* What leads from this generator to `adapted`. Empty texts for none. */
    domain difference(const generator &adapted, const std::string &source = {}, const std::string &target = {},
                      const call &call = {}) const {
        return domain(detail::made_heeding<nada_domain>(call, nada_domain_between, get(), adapted.get(),
                                                        source.empty() ? nullptr : source.c_str(),
                                                        target.empty() ? nullptr : target.c_str()));
    }
    generator without_classes(const call &call = {}) const {
        return generator(detail::made_heeding<nada_generator>(call, nada_generator_without_classes, get()));
    }
    /* Borrows this generator, and so do the names in it. */
    nada::layers layers() const noexcept { return nada::layers(get()); }
    uint32_t size() const noexcept { return nada_generator_size(get()); }
    uint32_t width() const noexcept { return nada_generator_width(get()); }
    uint32_t height() const noexcept { return nada_generator_height(get()); }
    uint32_t channels() const noexcept { return nada_generator_channels(get()); }
    size_t rows() const noexcept { return nada_generator_rows(get()); }
    size_t dimension() const noexcept { return nada_generator_dimension(get()); }
    size_t z_dimension() const noexcept { return nada_generator_z_dimension(get()); }
    std::string fingerprint(const call &call = {}) const {
        const char *found = nullptr;
        detail::heeding(call, [&](const nada_call *heeded) { return nada_generator_fingerprint(get(), heeded, &found); });
        return found;
    }
    uint32_t classes() const noexcept { return nada_generator_classes(get()); }

    generator with_class(uint32_t class_index) const {
        return generator(detail::made<nada_generator>(nada_generator_with_class, get(), class_index));
    }
    generator with_domains(const drawing &domains, const call &call = {}) const {
        const nada_render_options o = domains.plain();
        return generator(
            detail::made_heeding<nada_generator>(call, nada_generator_with_domains, get(), o.domains, o.strengths, o.domain_count));
    }
    latent sample(size_t count, uint64_t seed, float truncation = 0.7f, const call &call = {}) const {
        return latent(detail::made_heeding<nada_latent>(call, nada_generator_sample, get(), count, seed, truncation));
    }
    latent mix_styles(const latent &a, const latent &b, size_t crossover, const call &call = {}) const {
        return latent(detail::made_heeding<nada_latent>(call, nada_generator_mix_styles, get(), a.get(), b.get(), crossover));
    }
    latent mix_linear(const latent &a, const latent &b, float amount, const call &call = {}) const {
        return latent(detail::made_heeding<nada_latent>(call, nada_generator_mix_linear, get(), a.get(), b.get(), amount));
    }
    /* One picture a point. */
    std::vector<image> render(const latent &latent, const drawing &how = {}, const call &call = {}) const {
        const nada_render_options options = how.plain();
        std::vector<nada_image *> images(latent.count());
        std::vector<image> result;
        result.reserve(images.size());
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_generator_render(get(), latent.get(), &options, heeded, images.data(), images.size());
        });
        for (nada_image *i : images) result.emplace_back(i);
        return result;
    }
    domain adapt(const nada_adaptation_options &options, const call &call = {}) const {
        return domain(detail::made_heeding<nada_domain>(call, nada_generator_adapt, get(), &options));
    }
    inversion invert(const image &image, const nada_inversion_options &options, const call &call = {}) const {
        nada_latent *found = nullptr;
        float psnr = 0;
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_generator_invert(get(), image.get(), &options, heeded, &found, &psnr);
        });
        return {latent(found), psnr};
    }
    image restyle(const image &picture, const drawing &how, const nada_inversion_options &options = inversion_options(),
                  const call &call = {}) const {
        const nada_render_options render = how.after_search();
        return image(detail::made_heeding<nada_image>(call, nada_generator_restyle, get(), picture.get(), &options, &render));
    }
    void restyle_frame(const nada_pixels &source, const nada_frame_options &frame, const drawing &how, const nada_pixels_mut &target,
                       const nada_inversion_options &options = inversion_options(), const call &call = {}) const {
        const nada_render_options render = how.after_search();
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_generator_restyle_frame(get(), &source, &frame, &options, &render, heeded, &target);
        });
    }
    void render_frame(const nada_pixels &source, const nada_frame_options &frame, const latent &latent, const drawing &how,
                      const nada_pixels_mut &target, const call &call = {}) const {
        const nada_render_options render = how.after_search();
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_generator_render_frame(get(), &source, &frame, latent.get(), &render, heeded, &target);
        });
    }
};

/* An adaptation step by step; one thread at a time. */
class adaptation : public detail::handle<nada_adaptation, nada_adaptation_free> {
public:
    adaptation(const generator &generator, const nada_adaptation_options &options, const call &call = {})
        : handle(detail::made_heeding<nada_adaptation>(call, nada_adaptation_new, generator.get(), &options)) {}
    std::string warning() const { return nada_adaptation_warning(get()); }
    float step(const call &call = {}) {
        float loss = 0;
        detail::heeding(call, [&](const nada_call *heeded) { return nada_adaptation_step(get(), heeded, &loss); });
        return loss;
    }
    void run(const call &call = {}) {
        detail::heeding(call, [&](const nada_call *heeded) { return nada_adaptation_run(get(), heeded); });
    }
    nada_outcome outcome() const { return detail::filled<nada_outcome>(nada_adaptation_outcome, get()); }
    size_t snapshot_count() const {
        size_t count = 0;
        check(nada_adaptation_snapshot_count(get(), &count));
        return count;
    }
    nada_snapshot snapshot_info(size_t index) const { return detail::filled<nada_snapshot>(nada_adaptation_snapshot_info, get(), index); }
    domain snapshot_domain(size_t index) const {
        return domain(detail::made<nada_domain>(nada_adaptation_snapshot_domain, get(), index));
    }
    image snapshot_preview(size_t index) const {
        return image(detail::made<nada_image>(nada_adaptation_snapshot_preview, get(), index));
    }
    image preview(size_t count, const call &call = {}) const {
        return image(detail::made_heeding<nada_image>(call, nada_adaptation_preview, get(), count));
    }
    domain current() const { return domain(detail::made<nada_domain>(nada_adaptation_domain, get())); }
    domain result() const { return domain(detail::made<nada_domain>(nada_adaptation_result, get())); }
};

/* What domains reach. */
class evaluation : public detail::handle<nada_evaluation, nada_evaluation_free> {
public:
    using handle::handle;
    nada_measures measures() const { return detail::filled<nada_measures>(nada_evaluation_measures, get()); }
    std::string truth() const { return nada_evaluation_truth(get()); }
    size_t clip_count() const noexcept { return nada_evaluation_clip_count(get()); }
    std::string clip_name(size_t index) const { return nada_evaluation_clip_name(get(), index); }
    nada_clip_measures clip_measures(size_t index) const {
        return detail::filled<nada_clip_measures>(nada_evaluation_clip_measures, get(), index);
    }
    image sheet() const { return image(detail::made<nada_image>(nada_evaluation_sheet, get())); }
};

class model : public detail::handle<nada_model, nada_model_free> {
public:
    explicit model(const context &context) : handle(detail::made<nada_model>(nada_model_open, context.get(), nullptr)) {}
    model(const context &context, const std::string &name)
        : handle(detail::made<nada_model>(nada_model_open, context.get(), name.c_str())) {}
    std::string name() const { return nada_model_name(get()); }
    std::string folder() const { return nada_model_folder(get()); }
    std::string description() const { return nada_model_description(get()); }
    std::string warning() const { return nada_model_warning(get()); }
    nada::generator generator(const call &call = {}) const {
        return nada::generator(detail::made_heeding<nada_generator>(call, nada_model_generator, get()));
    }
    size_t clip_count(const call &call = {}) const {
        size_t count = 0;
        detail::heeding(call, [&](const nada_call *heeded) { return nada_model_clip_count(get(), heeded, &count); });
        return count;
    }
    nada::clip clip(size_t index, float *weight = nullptr, const call &call = {}) const {
        nada_clip *found = nullptr;
        detail::heeding(call, [&](const nada_call *heeded) { return nada_model_clip(get(), index, heeded, &found, weight); });
        return nada::clip(found);
    }
    /* Figures of domains on the pack's held-out latents; "" for the last domain's target, and for the truth that the pack's words tie to it. */
    nada::evaluation evaluate(const std::vector<applied> &domains, const std::string &target = {}, const std::string &truth = {},
                              const call &call = {}) const {
        std::vector<const nada_domain *> handles;
        std::vector<float> strengths;
        for (const applied &d : domains) handles.push_back(detail::get(d.what)), strengths.push_back(d.strength);
        return nada::evaluation(detail::made_heeding<nada_evaluation>(call, nada_model_evaluate, get(), handles.data(), strengths.data(),
                                                                      handles.size(), target.empty() ? nullptr : target.c_str(),
                                                                      truth.empty() ? nullptr : truth.c_str()));
    }
    /* The pack's recipe; borrows the model. */
    nada_adaptation_options adaptation_options() const {
        return detail::filled<nada_adaptation_options>(nada_model_adaptation_options, get());
    }
    /* Empty where the pack has none. */
    nada::encoder encoder(const call &call = {}) const {
        return nada::encoder(detail::made_heeding<nada_encoder>(call, nada_model_encoder, get()));
    }
    nada_inversion_options inversion_options() const {
        return detail::filled<nada_inversion_options>(nada_model_inversion_options, get());
    }
    /* Throws where the words are too long for the CLIPs. */
    void check_length(const std::string &words, const call &call = {}) const {
        detail::heeding(call, [&](const nada_call *heeded) { return nada_model_check_length(get(), words.c_str(), heeded); });
    }
    /* "" where every word is known. */
    std::string check_text(const std::string &words, const call &call = {}) const {
        std::string text;
        detail::heeding(call, [&](const nada_call *heeded) {
            text = detail::text([&](char *to, size_t size, size_t *needed) {
                return nada_model_check_text(get(), words.c_str(), heeded, to, size, needed);
            });
            return NADA_OK;
        });
        return text;
    }
    std::vector<std::string> phrases() const {
        const std::string lines =
            detail::text([&](char *to, size_t size, size_t *needed) { return nada_model_phrases(get(), to, size, needed); });
        std::vector<std::string> phrases;
        for (size_t from = 0, to; from < lines.size(); from = to + 1) {
            to = lines.find('\n', from);
            if (to == std::string::npos) to = lines.size();
            phrases.push_back(lines.substr(from, to - from));
        }
        return phrases;
    }
};

/* A pack that was found. */
struct found_model {
    std::string name, folder, description;
};

/* A range of found_model. */
class model_list : public detail::handle<nada_model_list, nada_model_list_free> {
public:
    using iterator = detail::iterator<model_list, found_model>;
    explicit model_list(const context &context) : handle(detail::made<nada_model_list>(nada_model_list_new, context.get())) {}
    size_t size() const noexcept { return nada_model_list_count(get()); }
    /* Empty texts for an index out of range. */
    found_model operator[](size_t index) const {
        return {nada_model_list_name(get(), index), nada_model_list_folder(get(), index), nada_model_list_description(get(), index)};
    }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }
    std::string warning() const { return nada_model_list_warning(get()); }
};

/* An installed domain. */
struct entry {
    size_t index;
    std::string name, file, source, target, fingerprint;
};

/* A range of entry. */
class gallery : public detail::handle<nada_gallery, nada_gallery_free> {
public:
    /* The user's. */
    explicit gallery(const context &context, const call &call = {})
        : handle(detail::made_heeding<nada_gallery>(call, nada_gallery_open, context.get(), nullptr)) {}
    gallery(const context &context, const std::string &folder, const call &call = {})
        : handle(detail::made_heeding<nada_gallery>(call, nada_gallery_open, context.get(), folder.c_str())) {}
    std::string folder() const { return nada_gallery_folder(get()); }
    using iterator = detail::iterator<gallery, entry>;
    size_t size() const noexcept { return nada_gallery_count(get()); }
    size_t skipped() const noexcept { return nada_gallery_skipped(get()); }
    /* Empty texts for an index out of range. */
    entry operator[](size_t index) const {
        return {index, nada_gallery_name(get(), index), nada_gallery_file(get(), index), nada_gallery_source(get(), index),
                nada_gallery_target(get(), index), nada_gallery_fingerprint(get(), index)};
    }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }
    /* Empty where the domain has none. */
    std::optional<image> thumbnail(size_t index) const {
        nada_image *found = nullptr;
        check(nada_gallery_thumbnail(get(), index, &found));
        return found ? std::optional<image>(image(found)) : std::nullopt;
    }
    /* As generator::fits(), without reading the domain's numbers. */
    bool fits(size_t index, const generator &generator, const call &call = {}) const {
        uint32_t fits = 0;
        detail::heeding(call, [&](const nada_call *heeded) { return nada_gallery_fits(get(), index, generator.get(), heeded, &fits); });
        return fits != 0;
    }
    nada::domain domain(size_t index, const call &call = {}) const {
        return nada::domain(detail::made_heeding<nada_domain>(call, nada_gallery_domain, get(), index));
    }
    /* Returns the file. An empty name is made from the target's words. */
    std::string install(const nada::domain &domain, const std::string &name = {}, const image *thumbnail = nullptr,
                        const call &call = {}) const {
        /* Longer than any path that a system takes: the call is not to be made twice. */
        std::string file(1 << 16, '\0');
        size_t needed = 0;
        detail::heeding(call, [&](const nada_call *heeded) {
            return nada_gallery_install(get(), domain.get(), name.empty() ? nullptr : name.c_str(), detail::get(thumbnail), heeded,
                                        file.data(), file.size(), &needed);
        });
        file.resize(needed - 1);
        return file;
    }
};

} // namespace nada

#endif /* NADA_HPP */
