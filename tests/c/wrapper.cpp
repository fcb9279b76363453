// nada.hpp: exceptions, moves, callbacks that throw, and what it adds to the calls. Built and run by scripts/test-install:
//
//     wrapper PICTURE OUT_FOLDER
#include <nada.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <type_traits>

static int failures = 0;
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            failures++; \
        } \
    } while (0)

template <typename Call>
static nada_status status_of(Call call) {
    try {
        call();
    } catch (const nada::error &e) {
        CHECK(std::strlen(e.what()) > 0 && std::strcmp(e.name(), nada_status_name(static_cast<int32_t>(e.status()))) == 0);
        return e.status();
    }
    return NADA_OK;
}

int main(int argc, char **argv) try {
    if (argc != 3) return 2;
    const std::string out = argv[2];
    static_assert(!std::is_copy_constructible<nada::image>::value, "handles move");
    static_assert(std::is_nothrow_move_constructible<nada::image>::value, "handles move");

    nada_context_options two = nada::context_options();
    two.threads = 2;
    nada::context context(two);
    CHECK(context.threads() == 2);
    CHECK(status_of([] { nada::image::open("/nowhere.png"); }) == NADA_NOT_FOUND);
    nada::model model(context);
    nada::model_list list(context);
    CHECK(list.warning().find("NADA_MODELS") == std::string::npos);
    CHECK(list.size() >= 1 && !list[0].folder.empty() && list[list.size()].name.empty());
    size_t starters = 0;
    for (const nada::found_model &found : list) starters += found.name == "starter";
    CHECK(starters == 1);
    const std::vector<std::string> phrases = model.phrases();
    CHECK(std::count(phrases.begin(), phrases.end(), "a pencil sketch") == 1);
    CHECK(model.check_text("a pencil sketch").empty());
    CHECK(model.check_text("a flibbertigibbet").find("flibbertigibbet") != std::string::npos);
    nada::cancel stop;
    stop.trigger();
    CHECK(status_of([&] { model.generator(stop); }) == NADA_CANCELLED);
    CHECK(status_of([&] { model.check_text("a pencil sketch", stop); }) == NADA_CANCELLED && model.warning().empty());
    nada::generator generator = model.generator();
    CHECK(status_of([&] { generator.fingerprint(stop); }) == NADA_CANCELLED && generator.fingerprint().size() == 64);
    CHECK(status_of([&] { generator.sample(1, 1, 0.7f, stop); }) == NADA_CANCELLED);
    size_t layers = 0;
    for (const nada_layer &layer : generator.layers()) {
        CHECK(layer.struct_size == sizeof layer && *layer.name && layer.width <= generator.width());
        CHECK(layer.row < static_cast<int32_t>(generator.rows()) && (layer.kind == NADA_LAYER_INPUT) == (layer.row < 0));
        layers++;
    }
    CHECK(layers > generator.rows() && generator.layers().size() == layers);
    CHECK(status_of([&] { generator.layers()[layers]; }) == NADA_INVALID_ARGUMENT);
    nada::image picture = nada::image::open(argv[1]);

    nada::image moved = std::move(picture);
    CHECK(!picture && moved);
    CHECK(status_of([&] { picture.save_png(out + "/none.png"); }) == NADA_INVALID_ARGUMENT);
    picture = std::move(moved);
    CHECK(picture && !moved);

    nada_adaptation_options adapt = model.adaptation_options();
    adapt.target_text = "a pencil sketch";
    adapt.steps = 2;
    adapt.batch = 2;
    adapt.learning_rate = 0.02;
    adapt.stop_latents = 0;
    int calls = 0;
    nada::domain domain = generator.adapt(adapt, [&](const nada_progress &p) { return calls++, p.step <= p.total; });
    CHECK(calls == 2 && domain.step() == 2 && domain.target() == "a pencil sketch" && !domain.clips().empty());
    CHECK(status_of([&] { generator.adapt(adapt, [](const nada_progress &) { return false; }); }) == NADA_CANCELLED);
    bool thrown = false;
    try {
        generator.adapt(adapt, [](const nada_progress &) -> bool { throw std::runtime_error("from the callback"); });
    } catch (const std::runtime_error &e) {
        thrown = std::strcmp(e.what(), "from the callback") == 0;
    }
    CHECK(thrown);
    nada::cancel cancel;
    cancel.trigger();
    CHECK(cancel.is_triggered());
    CHECK(status_of([&] { generator.adapt(adapt, cancel); }) == NADA_CANCELLED);

    nada::adaptation adaptation(generator, adapt);
    adaptation.step();
    adaptation.run();
    CHECK(adaptation.outcome().steps == 2 && adaptation.warning().empty());
    CHECK(adaptation.preview(1).width() > 0 && adaptation.result().step() == 2);

    nada::latent latent = generator.sample(2, 5);
    CHECK(latent.count() == 2 && latent.data().size() == 2 * generator.dimension() && latent.space() == NADA_SPACE_W);
    std::vector<nada::image> images = generator.render(latent, {{&domain, 0.5f}});
    CHECK(images.size() == 2 && images[1].width() == generator.size());
    CHECK(status_of([&] { generator.render(latent, {{&domain, 2.0f}}); }) == NADA_INVALID_ARGUMENT);
    generator.with_domains({{&domain}}).render(latent);

    nada_inversion_options invert = model.inversion_options();
    invert.steps = 2;
    // The pack has no encoder, and this file is none.
    CHECK(!model.encoder() && invert.encoder == nullptr && invert.method == NADA_METHOD_AUTO && invert.rounds == 5);
    CHECK(status_of([&] { nada::encoder(context, "missing.pt"); }) == NADA_NOT_FOUND);
    nada::inversion inversion = generator.invert(picture, invert);
    CHECK(inversion.psnr > 0 && inversion.found.count() == 1);
    std::vector<unsigned char> bytes(64 * 48 * 4, 99), layer(bytes.size());
    nada_pixels source = {bytes.data(), 64 * 4, 64, 48, NADA_FORMAT_RGBA8, NADA_TRANSFER_SRGB};
    nada_pixels_mut target = {layer.data(), 64 * 4, 64, 48, NADA_FORMAT_RGBA8, NADA_TRANSFER_SRGB};
    nada_frame_options where = nada::frame_options();
    generator.render_frame(source, where, inversion.found, {{&domain}}, target);
    CHECK(layer[0] == 0 && layer[4 * (24 * 64 + 32) + 3] == 99 && std::memcmp(&layer[4 * (24 * 64 + 32)], &bytes[0], 4) != 0);
    const nada_frame turned = nada::frame(32, 24, 20, 30);
    where.frame = &turned;
    generator.restyle_frame(source, where, {}, target, invert);
    CHECK(nada::image::from_frame(source, 16).width() == 16 && nada::image::from_frame(source, turned).width() == 20);
    const nada::faces none(context, source);
    CHECK(none.size() == 0 && none.begin() == none.end());
    CHECK(status_of([&] { none[0]; }) == NADA_INVALID_ARGUMENT);
    const nada::image cut = nada::image::from_face(context, source, turned, 16);
    CHECK(cut.width() == 16);
    nada::put_back(context, source, turned, cut, target, &cut);
    CHECK(nada::frame(nada_face{sizeof(nada_face), 0, 0, 0, 0, {}, 5, 6, 7, 8, 0.5f, 0}).angle == 8);

    std::ifstream in(argv[1], std::ios::binary);
    const std::vector<unsigned char> file_bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    CHECK(nada::image::open(file_bytes).width() == picture.width());
    const nada::clip clip = model.clip(0);
    const std::vector<std::string> words = {"a photo", "a pencil sketch"};
    const std::vector<float> texts = clip.embed(words), row = clip.embed(picture), scores = clip.score(picture, words);
    float product = 0;
    for (size_t i = 0; i < row.size(); i++) product += row[i] * texts[i];
    CHECK(texts.size() == 2 * row.size() && scores.size() == 2 && std::fabs(product - scores[0]) < 1e-4f);
    nada::evaluation evaluation = model.evaluate({{&domain}});
    CHECK(evaluation.measures().pictures > 0 && evaluation.clip_count() >= 1 && evaluation.sheet().width() > 0);
    generator.with_domains({{&domain}}).save(out + "/sketch.pkl", NADA_LAYOUT_ADA_PYTORCH);
    std::string logged;
    nada::set_log([&](nada_log_level, const char *line) { logged += line; }, NADA_LOG_DEBUG);
    try {
        nada::generator missing(context, "/nowhere.pt");
        CHECK(false);
    } catch (const nada::error &e) {
        CHECK(e.file() == "/nowhere.pt" && e.status() == NADA_NOT_FOUND && logged.find("/nowhere.pt") != std::string::npos);
    }
    nada::set_log({});

    nada::gallery empty(context, out + "/domains");
    CHECK(empty.size() == 0 && empty.begin() == empty.end());
    const std::string file = empty.install(domain, "", &images[0]);
    CHECK(empty.install(domain) != file);
    nada::gallery gallery(context, out + "/domains");
    std::vector<std::string> files;
    for (const nada::entry &entry : gallery) files.push_back(entry.file);
    CHECK(files.size() == 2 && files[0] == file && gallery[1].target == "a pencil sketch" && gallery.thumbnail(0) && !gallery.thumbnail(1));
    CHECK(gallery.domain(0).fingerprint() == generator.fingerprint());
    CHECK(gallery.fits(0, generator) && generator.fits(gallery.domain(0)) && generator.taken(gallery.domain(0)).target() == "a pencil sketch");
    nada_adaptation_options by_name = nada::adaptation_options();
    nada::set(by_name, "losses.structure", "400");
    CHECK(by_name.losses_structure == 400.0f);
    return failures != 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
