#!/usr/bin/env python3
"""Writes tests/c/models/starter: a model pack of random weights in the starter's layout, small enough for valgrind.

    python tests/c/make_pack.py        (needs numpy and safetensors)

Its name is the starter's, so that programs which open "starter" find it through NADA_MODELS. It draws noise and knows letters.
"""
import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent / "models" / "starter"
SIZE, STYLE, CHANNELS, MAPPING = 32, 16, 8, 2
WIDTH, TEXT_CONTEXT, IMAGE, PATCH = 16, 40, 16, 8
random = np.random.default_rng(1)


def normal(*shape, scale=1.0):
    return (random.standard_normal(shape) * scale).astype(np.float32)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def ones(*shape):
    return np.ones(shape, np.float32)


def generator():
    """StyleGAN2 in rosinality's layout; equalised learning rates want weights of variance 1."""
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32)
    blur = taps / taps.sum() * 4
    t = {"input.input": normal(1, CHANNELS, 4, 4), "latent_avg": zeros(STYLE)}
    for i in range(MAPPING):
        t[f"style.{i + 1}.weight"] = normal(STYLE, STYLE, scale=100)  # lr_mul 0.01
        t[f"style.{i + 1}.bias"] = zeros(STYLE)

    def modulated(name, out, kernel):
        t[f"{name}.conv.weight"] = normal(1, out, CHANNELS, kernel, kernel)
        t[f"{name}.conv.modulation.weight"] = normal(CHANNELS, STYLE)
        t[f"{name}.conv.modulation.bias"] = ones(CHANNELS)

    def styled(name):
        modulated(name, CHANNELS, 3)
        t[f"{name}.noise.weight"] = zeros(1) + 0.1
        t[f"{name}.activate.bias"] = zeros(CHANNELS)

    def to_rgb(name):
        modulated(name, 3, 1)
        t[f"{name}.bias"] = zeros(1, 3, 1, 1)

    styled("conv1")
    to_rgb("to_rgb1")
    t["noises.noise_0"] = normal(1, 1, 4, 4)
    for i in range(SIZE.bit_length() - 3):
        side = 8 << i
        for j in (2 * i, 2 * i + 1):
            styled(f"convs.{j}")
            t[f"noises.noise_{j + 1}"] = normal(1, 1, side, side)
        t[f"convs.{2 * i}.conv.blur.kernel"] = blur
        to_rgb(f"to_rgbs.{i}")
        t[f"to_rgbs.{i}.upsample.kernel"] = blur
    return t


def clip(vocabulary):
    """A vision transformer in Hugging Face's layout."""
    t = {"logit_scale": np.array(np.log(100), np.float32)}

    def linear(name, out, inputs):
        t[f"{name}.weight"] = normal(out, inputs, scale=inputs**-0.5)
        t[f"{name}.bias"] = zeros(out)

    def norm(name):
        t[f"{name}.weight"] = ones(WIDTH)
        t[f"{name}.bias"] = zeros(WIDTH)

    for tower in ("text_model", "vision_model"):
        block = f"{tower}.encoder.layers.0"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{block}.self_attn.{part}", WIDTH, WIDTH)
        linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH)
        linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
        norm(f"{block}.layer_norm1")
        norm(f"{block}.layer_norm2")
    norm("text_model.final_layer_norm")
    norm("vision_model.pre_layrnorm")
    norm("vision_model.post_layernorm")
    t["text_model.embeddings.token_embedding.weight"] = normal(vocabulary, WIDTH)
    t["text_model.embeddings.position_embedding.weight"] = normal(TEXT_CONTEXT, WIDTH)
    t["vision_model.embeddings.class_embedding"] = normal(WIDTH)
    t["vision_model.embeddings.patch_embedding.weight"] = normal(WIDTH, 3, PATCH, PATCH, scale=0.1)
    t["vision_model.embeddings.position_embedding.weight"] = normal((IMAGE // PATCH) ** 2 + 1, WIDTH)
    t["text_projection.weight"] = normal(WIDTH, WIDTH)
    t["visual_projection.weight"] = normal(WIDTH, WIDTH)
    return t


def letters():
    """The tokens of single bytes, in the middle and at the end of a word, in the order that byte-level tokenizers give them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    characters = [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]
    tokens = characters + [c + "</w>" for c in characters] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=True) + "\n")


def main():
    vocabulary = letters()
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    tower |= {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-05, "projection_dim": WIDTH}
    end = vocabulary["<|endoftext|>"]
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": TEXT_CONTEXT, "bos_token_id": end - 1, "eos_token_id": end}
    vision = {"image_size": IMAGE, "patch_size": PATCH, "num_channels": 3}
    config = {"model_type": "clip", "projection_dim": WIDTH, "logit_scale_init_value": 2.6592}
    write(FOLDER / "clip-a/config.json", config | {"text_config": tower | text, "vision_config": tower | vision})
    preprocessing = {"crop_size": IMAGE, "size": IMAGE, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    preprocessing |= {"do_center_crop": True, "do_normalize": True, "do_resize": True}
    write(FOLDER / "clip-a/preprocessor_config.json", preprocessing)
    write(FOLDER / "clip-a/vocab.json", vocabulary)
    write(FOLDER / "clip-a/merges.txt", "#version: 0.2\n")
    save_file(clip(len(vocabulary)), FOLDER / "clip-a/model.safetensors", {"format": "pt"})
    metadata = {"style_dim": str(STYLE), "n_mlp": str(MAPPING), "lr_mlp": "0.01", "size": str(SIZE)}
    save_file(generator(), FOLDER / "generator.safetensors", metadata)
    words = {"source": ["a photo"], "filters": {"sketch": ["a pencil sketch"]}, "templates": ["{}"]}
    write(FOLDER / "words.json", words)
    write(
        FOLDER / "model.toml",
        f"""# Random weights for tests: made by tests/c/make_pack.py.
name = "starter"
resolution = {SIZE}
generator = "generator.safetensors"
words = "words.json"

[[clip]]
path = "clip-a"

[recipe]
batch = 2
learning_rate = 0.02
train_to_rgb = true
augment = true
clip_resize = "area"
noise = false
""",
    )


main()
