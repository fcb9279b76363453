// Restyles a picture by words, in four steps: open a generator, adapt it, invert the picture, render.
//
//     cmake -S examples/cpp -B build -DCMAKE_PREFIX_PATH=PREFIX && cmake --build build
//     build/restyle face.png "a pencil sketch" sketch.png
#include <nada.hpp>

#include <cstdlib>
#include <iostream>

int main(int argc, char **argv) try {
    if (argc < 4) {
        std::cerr << "usage: " << argv[0] << " PICTURE WORDS OUT [STEPS]\n";
        return 2;
    }
    nada::context context;
    nada::model model(context);
    std::cout << "model: " << model.folder() << "\n";
    nada::generator generator = model.generator();

    nada_adaptation_options adapt = model.adaptation_options();
    nada_inversion_options invert = model.inversion_options();
    adapt.target_text = argv[2];
    if (argc > 4) adapt.steps = invert.steps = static_cast<uint32_t>(std::atoi(argv[4])); // fewer, for a quick look
    std::cerr << model.check_text(argv[2]) << "\n";

    nada::domain domain = generator.adapt(adapt, [](const nada_progress &p) {
        std::cerr << "\radapting " << p.step << "/" << p.total << std::flush;
        return true;
    });
    nada::inversion inversion = generator.invert(nada::image::open(argv[1]), invert);
    std::cerr << "\ninverted: " << inversion.psnr << " dB\n";
    generator.render(inversion.found, {{&domain}}).front().save_png(argv[3]);
    return 0;
} catch (const nada::error &e) {
    std::cerr << e.name() << ": " << e.what() << "\n";
    return 1;
}
