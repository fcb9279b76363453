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
 * - A progress callback returns whether to go on. What it throws stops the call and is thrown again from it.
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
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace nada {

class error : public std::runtime_error {
public:
    error(nada_status status, const char *message) : std::runtime_error(message), status_(status) {}
    nada_status status() const noexcept { return status_; }
    /* Such as "NADA_NOT_FOUND". */
    const char *name() const noexcept { return nada_status_name(static_cast<int32_t>(status_)); }

private:
    nada_status status_;
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

/* Carries a std::function, and what it throws, through C. */
class callback {
public:
    explicit callback(const progress &function) : function_(function) {}
    nada_progress_callback function() const noexcept { return function_ ? call : nullptr; }
    void finish(nada_status status) {
        if (thrown_) std::rethrow_exception(thrown_);
        nada::check(status);
    }

private:
    static nada_flow call(const nada_progress *progress, void *self) noexcept {
        callback &me = *static_cast<callback *>(self);
        try {
            return me.function_(*progress) ? NADA_CONTINUE : NADA_STOP;
        } catch (...) {
            me.thrown_ = std::current_exception();
            return NADA_STOP;
        }
    }
    const progress &function_;
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
inline nada_render_options render_options() { return detail::filled<nada_render_options>(nada_render_options_init); }
inline nada_region_options region_options() { return detail::filled<nada_region_options>(nada_region_options_init); }

inline std::string version() { return nada_version(); }

/* A flag that any thread may raise. */
class cancel : public detail::handle<nada_cancel, nada_cancel_free> {
public:
    cancel() : handle(detail::made<nada_cancel>(nada_cancel_new)) {}
    void trigger() const { check(nada_cancel_trigger(get())); }
    void reset() const { check(nada_cancel_reset(get())); }
    bool is_triggered() const noexcept { return nada_cancel_is_triggered(get()) != 0; }
};

class context : public detail::handle<nada_context, nada_context_free> {
public:
    context() : handle(detail::made<nada_context>(nada_context_new, nullptr)) {}
    explicit context(const nada_context_options &options) : handle(detail::made<nada_context>(nada_context_new, &options)) {}
    /* Ends calls that read files once it is triggered; without one they read to the end. The context keeps a share of it. */
    void set_cancel(const cancel &token) const { check(nada_context_set_cancel(get(), token.get())); }
    void set_cancel() const { check(nada_context_set_cancel(get(), nullptr)); }
    uint32_t threads() const noexcept { return nada_context_threads(get()); }
};

class image : public detail::handle<nada_image, nada_image_free> {
public:
    using handle::handle;
    static image open(const std::string &file) { return image(detail::made<nada_image>(nada_image_open, file.c_str())); }
    static image from_pixels(const nada_pixels &pixels) { return image(detail::made<nada_image>(nada_image_from_pixels, &pixels)); }
    /* The square of a region; at most max_size pixels a side, 0 for as many as it has. */
    static image from_region(const nada_pixels &pixels, const nada_region_options &region, uint32_t max_size = 0) {
        return image(detail::made<nada_image>(nada_image_from_region, &pixels, &region, max_size));
    }
    void to_pixels(const nada_pixels_mut &pixels) const { check(nada_image_to_pixels(get(), &pixels)); }
    void save_png(const std::string &file) const { check(nada_image_save_png(get(), file.c_str())); }
    uint32_t width() const noexcept { return nada_image_width(get()); }
    uint32_t height() const noexcept { return nada_image_height(get()); }
};

class clip : public detail::handle<nada_clip, nada_clip_free> {
public:
    using handle::handle;
    clip(const context &context, const std::string &file) : handle(detail::made<nada_clip>(nada_clip_open, context.get(), file.c_str())) {}
    clip(const context &context, const std::string &file, nada_activation activation)
        : handle(detail::made<nada_clip>(nada_clip_open_as, context.get(), file.c_str(), activation)) {}
    std::string name() const { return nada_clip_name(get()); }
    std::string warning() const { return nada_clip_warning(get()); }
    uint32_t resolution() const noexcept { return nada_clip_resolution(get()); }
    uint32_t dimension() const noexcept { return nada_clip_dimension(get()); }
};

class latent : public detail::handle<nada_latent, nada_latent_free> {
public:
    using handle::handle;
    latent(const context &context, const std::string &file, nada_space space)
        : handle(detail::made<nada_latent>(nada_latent_open, context.get(), file.c_str(), space)) {}
    latent(const context &context, nada_space space, const float *data, size_t count, size_t rows, size_t dimension)
        : handle(detail::made<nada_latent>(nada_latent_from_data, context.get(), space, data, count, rows, dimension)) {}
    void save(const std::string &file) const { check(nada_latent_save(get(), file.c_str())); }
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
    domain(const context &context, const std::string &file)
        : handle(detail::made<nada_domain>(nada_domain_open, context.get(), file.c_str())) {}
    void save(const std::string &file) const { check(nada_domain_save(get(), file.c_str())); }
    std::string source() const { return nada_domain_source(get()); }
    std::string target() const { return nada_domain_target(get()); }
    std::string fingerprint() const { return nada_domain_fingerprint(get()); }
    std::string origin() const { return nada_domain_origin(get()); }
    domain to_half() const { return domain(detail::made<nada_domain>(nada_domain_to_half, get())); }
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

class generator : public detail::handle<nada_generator, nada_generator_free> {
public:
    using handle::handle;
    generator(const context &context, const std::string &file)
        : handle(detail::made<nada_generator>(nada_generator_open, context.get(), file.c_str())) {}
    uint32_t size() const noexcept { return nada_generator_size(get()); }
    uint32_t width() const noexcept { return nada_generator_width(get()); }
    uint32_t height() const noexcept { return nada_generator_height(get()); }
    uint32_t channels() const noexcept { return nada_generator_channels(get()); }
    size_t rows() const noexcept { return nada_generator_rows(get()); }
    size_t dimension() const noexcept { return nada_generator_dimension(get()); }
    size_t z_dimension() const noexcept { return nada_generator_z_dimension(get()); }
    std::string fingerprint() const { return nada_generator_fingerprint(get()); }
    uint32_t classes() const noexcept { return nada_generator_classes(get()); }

    generator with_class(uint32_t class_index) const {
        return generator(detail::made<nada_generator>(nada_generator_with_class, get(), class_index));
    }
    generator with_domains(const drawing &domains) const {
        const nada_render_options o = domains.plain();
        return generator(detail::made<nada_generator>(nada_generator_with_domains, get(), o.domains, o.strengths, o.domain_count));
    }
    latent sample(size_t count, uint64_t seed, float truncation = 0.7f) const {
        return latent(detail::made<nada_latent>(nada_generator_sample, get(), count, seed, truncation));
    }
    latent mix_styles(const latent &a, const latent &b, size_t crossover) const {
        return latent(detail::made<nada_latent>(nada_generator_mix_styles, get(), a.get(), b.get(), crossover));
    }
    latent mix_linear(const latent &a, const latent &b, float amount) const {
        return latent(detail::made<nada_latent>(nada_generator_mix_linear, get(), a.get(), b.get(), amount));
    }
    /* One picture a point. */
    std::vector<image> render(const latent &latent, const drawing &how = {}) const {
        const nada_render_options options = how.plain();
        std::vector<nada_image *> images(latent.count());
        std::vector<image> result;
        result.reserve(images.size());
        check(nada_generator_render(get(), latent.get(), &options, images.data(), images.size()));
        for (nada_image *i : images) result.emplace_back(i);
        return result;
    }
    domain adapt(const nada_adaptation_options &options, const progress &on_progress = {}, const cancel *cancel = nullptr) const {
        detail::callback callback(on_progress);
        nada_domain *made = nullptr;
        callback.finish(nada_generator_adapt(get(), &options, callback.function(), &callback, detail::get(cancel), &made));
        return domain(made);
    }
    inversion invert(const image &image, const nada_inversion_options &options, const progress &on_progress = {},
                     const cancel *cancel = nullptr) const {
        detail::callback callback(on_progress);
        nada_latent *found = nullptr;
        float psnr = 0;
        callback.finish(
            nada_generator_invert(get(), image.get(), &options, callback.function(), &callback, detail::get(cancel), &found, &psnr));
        return {latent(found), psnr};
    }
    image restyle(const image &picture, const drawing &how, const nada_inversion_options &options = inversion_options(),
                  const progress &on_progress = {}, const cancel *cancel = nullptr) const {
        detail::callback callback(on_progress);
        const nada_render_options render = how.after_search();
        nada_image *restyled = nullptr;
        callback.finish(nada_generator_restyle(get(), picture.get(), &options, &render, callback.function(), &callback,
                                               detail::get(cancel), &restyled));
        return image(restyled);
    }
    void restyle_region(const nada_pixels &source, const nada_region_options &region, const drawing &how, const nada_pixels_mut &target,
                        const nada_inversion_options &options = inversion_options(), const progress &on_progress = {},
                        const cancel *cancel = nullptr) const {
        detail::callback callback(on_progress);
        const nada_render_options render = how.after_search();
        callback.finish(nada_generator_restyle_region(get(), &source, &region, &options, &render, callback.function(), &callback,
                                                      detail::get(cancel), &target));
    }
    void render_region(const nada_pixels &source, const nada_region_options &region, const latent &latent, const drawing &how,
                       const nada_pixels_mut &target) const {
        const nada_render_options render = how.after_search();
        check(nada_generator_render_region(get(), &source, &region, latent.get(), &render, &target));
    }
};

/* An adaptation step by step; one thread at a time. */
class adaptation : public detail::handle<nada_adaptation, nada_adaptation_free> {
public:
    adaptation(const generator &generator, const nada_adaptation_options &options)
        : handle(detail::made<nada_adaptation>(nada_adaptation_new, generator.get(), &options)) {}
    std::string warning() const { return nada_adaptation_warning(get()); }
    float step() {
        float loss = 0;
        check(nada_adaptation_step(get(), &loss));
        return loss;
    }
    void run(const progress &on_progress = {}, const cancel *cancel = nullptr) {
        detail::callback callback(on_progress);
        callback.finish(nada_adaptation_run(get(), callback.function(), &callback, detail::get(cancel)));
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
    image preview(size_t count) const { return image(detail::made<nada_image>(nada_adaptation_preview, get(), count)); }
    domain current() const { return domain(detail::made<nada_domain>(nada_adaptation_domain, get())); }
    domain result() const { return domain(detail::made<nada_domain>(nada_adaptation_result, get())); }
};

class model : public detail::handle<nada_model, nada_model_free> {
public:
    explicit model(const context &context) : handle(detail::made<nada_model>(nada_model_open, context.get(), nullptr)) {}
    model(const context &context, const std::string &name)
        : handle(detail::made<nada_model>(nada_model_open, context.get(), name.c_str())) {}
    std::string name() const { return nada_model_name(get()); }
    std::string folder() const { return nada_model_folder(get()); }
    std::string description() const { return nada_model_description(get()); }
    nada::generator generator() const { return nada::generator(detail::made<nada_generator>(nada_model_generator, get())); }
    size_t clip_count() const {
        size_t count = 0;
        check(nada_model_clip_count(get(), &count));
        return count;
    }
    nada::clip clip(size_t index, float *weight = nullptr) const {
        nada_clip *found = nullptr;
        check(nada_model_clip(get(), index, &found, weight));
        return nada::clip(found);
    }
    /* The pack's recipe; borrows the model. */
    nada_adaptation_options adaptation_options() const {
        return detail::filled<nada_adaptation_options>(nada_model_adaptation_options, get());
    }
    nada_inversion_options inversion_options() const {
        return detail::filled<nada_inversion_options>(nada_model_inversion_options, get());
    }
    /* Throws where the words are too long for the CLIPs. */
    void check_length(const std::string &words) const { check(nada_model_check_length(get(), words.c_str())); }
    /* "" where every word is known. */
    std::string check_text(const std::string &words) const {
        return detail::text([&](char *to, size_t size, size_t *needed) {
            return nada_model_check_text(get(), words.c_str(), to, size, needed);
        });
    }
    /* One a line. */
    std::string phrases() const {
        return detail::text([&](char *to, size_t size, size_t *needed) { return nada_model_phrases(get(), to, size, needed); });
    }
};

class model_list : public detail::handle<nada_model_list, nada_model_list_free> {
public:
    explicit model_list(const context &context) : handle(detail::made<nada_model_list>(nada_model_list_new, context.get())) {}
    size_t count() const noexcept { return nada_model_list_count(get()); }
    std::string name(size_t index) const { return nada_model_list_name(get(), index); }
    std::string folder(size_t index) const { return nada_model_list_folder(get(), index); }
    std::string description(size_t index) const { return nada_model_list_description(get(), index); }
    std::string warning() const { return nada_model_list_warning(get()); }
};

class gallery : public detail::handle<nada_gallery, nada_gallery_free> {
public:
    /* The user's. */
    explicit gallery(const context &context) : handle(detail::made<nada_gallery>(nada_gallery_open, context.get(), nullptr)) {}
    gallery(const context &context, const std::string &folder)
        : handle(detail::made<nada_gallery>(nada_gallery_open, context.get(), folder.c_str())) {}
    std::string folder() const { return nada_gallery_folder(get()); }
    size_t count() const noexcept { return nada_gallery_count(get()); }
    size_t skipped() const noexcept { return nada_gallery_skipped(get()); }
    std::string name(size_t index) const { return nada_gallery_name(get(), index); }
    std::string file(size_t index) const { return nada_gallery_file(get(), index); }
    std::string source(size_t index) const { return nada_gallery_source(get(), index); }
    std::string target(size_t index) const { return nada_gallery_target(get(), index); }
    std::string fingerprint(size_t index) const { return nada_gallery_fingerprint(get(), index); }
    /* Empty where the domain has none. */
    std::optional<image> thumbnail(size_t index) const {
        nada_image *found = nullptr;
        check(nada_gallery_thumbnail(get(), index, &found));
        return found ? std::optional<image>(image(found)) : std::nullopt;
    }
    nada::domain domain(size_t index) const { return nada::domain(detail::made<nada_domain>(nada_gallery_domain, get(), index)); }
    /* Returns the file. An empty name is made from the target's words. */
    std::string install(const nada::domain &domain, const std::string &name = {}, const image *thumbnail = nullptr) const {
        /* Longer than any path that a system takes: the call is not to be made twice. */
        std::string file(1 << 16, '\0');
        size_t needed = 0;
        check(nada_gallery_install(get(), domain.get(), name.empty() ? nullptr : name.c_str(), detail::get(thumbnail), file.data(),
                                   file.size(), &needed));
        file.resize(needed - 1);
        return file;
    }
};

} // namespace nada

#endif /* NADA_HPP */
