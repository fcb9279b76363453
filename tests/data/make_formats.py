"""Makes the files in formats/: one tiny generator, one tiny CLIP and tiny encoders, in every format that people have them in (torch 2.15, CPU).

    python make_formats.py

formats/expected.safetensors holds what they must read as: the generator in rosinality's layout, and the CLIP's features.
Nothing here is taken from the projects whose formats these are: networks are dicts of random tensors with the right names.
"""

import argparse
import json
import pathlib
import pickle
import sys
import types

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "formats"
HERE.mkdir(exist_ok=True)
torch.manual_seed(0)
rand = torch.randn

# The generator, in rosinality's layout.
D, CHANNELS = 4, {4: 4, 8: 4, 16: 3, 32: 2}
g = {}
for i in (1, 2):
    g[f"style.{i}.weight"], g[f"style.{i}.bias"] = rand(D, D) * 100, rand(D)
g["input.input"] = rand(1, 4, 4, 4)


def convolution(name, out, inside, k):
    g[f"{name}.conv.weight"] = rand(1, out, inside, k, k)
    g[f"{name}.conv.modulation.weight"], g[f"{name}.conv.modulation.bias"] = rand(inside, D), 1 + rand(inside) / 10
    if k == 3:
        g[f"{name}.noise.weight"], g[f"{name}.activate.bias"] = rand(1), rand(out)
    else:
        g[f"{name}.bias"] = rand(1, 3, 1, 1)


convolution("conv1", 4, 4, 3)
convolution("to_rgb1", 3, 4, 1)
k1 = torch.tensor([1.0, 3.0, 3.0, 1.0])
for i, (r, c) in enumerate(list(CHANNELS.items())[1:]):
    convolution(f"convs.{2 * i}", c, CHANNELS[r // 2], 3)
    g[f"convs.{2 * i}.conv.blur.kernel"] = torch.outer(k1, k1) / 16
    convolution(f"convs.{2 * i + 1}", c, c, 3)
    convolution(f"to_rgbs.{i}", 3, c, 1)
    g[f"to_rgbs.{i}.upsample.kernel"] = torch.outer(k1, k1) / 16
for i in range(7):
    side = 4 << (i + 1) // 2
    g[f"noises.noise_{i}"] = rand(1, 1, side, side)
latent_avg = rand(D) / 10
expected = {f"generator.{key}": value for key, value in g.items()}
expected["generator.latent_avg"] = latent_avg

# Trainers' files: networks, optimiser state and a Namespace; zip and old format.
other = {key: value + 1 for key, value in g.items() if not key.startswith("noises")}
weights = [torch.nn.Parameter(value.clone()) for key, value in other.items() if "style" in key]
adam = torch.optim.Adam(weights, lr=0.002, betas=(0.0, 0.99))
sum(w.square().sum() for w in weights).backward()
adam.step()
args = argparse.Namespace(path="lmdb", size=32, lr=0.002, mixing=0.9, augment=False, ckpt=None, device=torch.device("cpu"))
trainer = {
    "g": other,
    "d": {"final_conv.0.weight": rand(2, 3, 3, 3)},
    "g_ema": g,
    "g_optim": adam.state_dict(),
    "d_optim": {"state": {}, "param_groups": []},
    "args": args,
    "ada_aug_p": 0.125,
}
torch.save(trainer, HERE / "trainer.pt")
torch.save(trainer, HERE / "trainer_legacy.pt", _use_new_zipfile_serialization=False)
whole = {"g_ema": g, "latent_avg": latent_avg}
torch.save(whole, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
torch.save(whole, HERE / "legacy_protocol4.pt", _use_new_zipfile_serialization=False, pickle_protocol=4)
with open(HERE / "plain.pkl", "wb") as file:
    pickle.dump(whole, file, protocol=3)


# NVIDIA's pickles: persistent objects, by the names that unpickling looks for.
def module(name):
    return sys.modules.setdefault(name, types.ModuleType(name))


def _reconstruct_persistent_obj(meta):
    raise NotImplementedError


class EasyDict(dict):
    pass


for package, thing in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
    module(package.split(".")[0])
    setattr(module(package), thing.__name__, thing)
    thing.__module__ = package


class Persistent:
    def __init__(self, name, parameters=(), buffers=(), modules=(), **attributes):
        state = {"training": False, "_parameters": {k: v and torch.nn.Parameter(v[0]) for k, v in dict(parameters).items()}}
        state |= {"_buffers": dict(buffers), "_non_persistent_buffers_set": set(), "_modules": dict(modules), **attributes}
        self.meta = dict(type="class", version=6, module_src="# the text of a module\n", class_name=name, state=state)

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,)


def dense(name, **attributes):
    parameters = {"weight": (g[f"{name}.weight"],), "bias": (g[f"{name}.bias"],)}
    return Persistent("FullyConnectedLayer", parameters, **attributes)


def layer(name, index, channels_last, half):
    form = torch.channels_last if channels_last else torch.contiguous_format
    rgb = "rgb" in name
    parameters = {"weight": (g[f"{name}.conv.weight"][0].contiguous(memory_format=form),)}
    parameters["bias"] = (g[f"{name}.bias"].reshape(3) if rgb else g[f"{name}.activate.bias"],)
    buffers = {}
    if not rgb:
        parameters["noise_strength"] = (g[f"{name}.noise.weight"][0],)
        buffers = {"resample_filter": torch.outer(k1, k1) / 64, "noise_const": g[f"noises.noise_{index}"][0, 0]}
    attributes = {"conv_clamp": 256 if half else None} | ({} if rgb else {"activation": "lrelu", "use_noise": True})
    kind = "ToRGBLayer" if rgb else "SynthesisLayer"
    return Persistent(kind, parameters, buffers, {"affine": dense(f"{name}.conv.modulation")}, **attributes)


def generator(half):
    blocks = {}
    for i, r in enumerate(CHANNELS):
        modules, parameters = {}, {}
        if r == 4:
            parameters = {"const": (g["input.input"][0],)}
            modules = {"conv1": layer("conv1", 0, False, half), "torgb": layer("to_rgb1", None, False, half)}
        else:
            last = half and r == 32
            for j in (0, 1):
                modules[f"conv{j}"] = layer(f"convs.{2 * i - 2 + j}", 2 * i - 1 + j, last, half)
            modules["torgb"] = layer(f"to_rgbs.{i - 1}", None, last, half)
        buffers = {"resample_filter": torch.outer(k1, k1) / 64}
        attributes = dict(resolution=r, architecture="skip", use_fp16=half and r == 32, channels_last=half and r == 32)
        blocks[f"b{r}"] = Persistent("SynthesisBlock", parameters, buffers, modules, **attributes)
    fc = {f"fc{i}": dense(f"style.{i + 1}", activation="lrelu", weight_gain=0.01 / D**0.5, bias_gain=0.01) for i in (0, 1)}
    mapping = Persistent("MappingNetwork", {}, {"w_avg": latent_avg}, fc, num_ws=8, w_avg_beta=0.995)
    kwargs = EasyDict(synthesis_kwargs=EasyDict(num_fp16_res=int(half)))
    modules = {"synthesis": Persistent("SynthesisNetwork", {}, {}, blocks, num_ws=8), "mapping": mapping}
    return Persistent("Generator", {}, {}, modules, z_dim=D, c_dim=0, img_resolution=32, _init_args=(), _init_kwargs=kwargs)


def networks(name, g_ema, protocol):
    d = Persistent("Discriminator", {}, {}, {"b4": Persistent("DiscriminatorEpilogue", {"weight": (rand(2, 2),)})})
    # As training code makes it: optional parts, numbers of numpy.
    settings = EasyDict(class_name="training.dataset.ImageFolderDataset", path="data.zip", xflip=True, resolution=np.int64(32))
    pipe = Persistent("AugmentPipe", {}, {"p": torch.tensor(0.5)})
    data = dict(training_set_kwargs=settings, G=Persistent("Generator"), D=d, G_ema=g_ema, augment_pipe=pipe)
    with open(HERE / name, "wb") as file:
        pickle.dump(data, file, protocol=protocol)


networks("ada.pkl", generator(half=False), 3)
networks("stylegan3_repository.pkl", generator(half=True), 4)
fourier = Persistent("SynthesisInput", {"weight": (rand(2, 2),)}, {"freqs": rand(2, 2), "phases": rand(2), "transform": torch.eye(3)})
network3 = Persistent("SynthesisNetwork", {}, {}, {"input": fourier, "L0_36_4": Persistent("SynthesisLayer", {"weight": (rand(2, 2),)})})
networks("stylegan3.pkl", Persistent("Generator", {}, {}, {"synthesis": network3}, z_dim=4, c_dim=0), 4)

# A CLIP in the names of open_clip, with what differs from OpenAI's: GELU, heads that are not 64 wide, colours.
WIDTH, HEADS, TEXT, TEXT_HEADS, EMBED, PATCH, SIDE, VOCABULARY, CONTEXT = 16, 2, 8, 4, 6, 4, 8, 32, 8
clip = {"logit_scale": torch.tensor(2.5)}


def transformer(prefix, width, layers):
    for i in range(layers):
        p = f"{prefix}transformer.resblocks.{i}."
        for name, shape in (("attn.in_proj_", (3 * width, width)), ("attn.out_proj.", (width, width))):
            clip[f"{p}{name}weight"], clip[f"{p}{name}bias"] = rand(shape) / width**0.5, rand(shape[0]) / 10
        for name, shape in (("mlp.c_fc.", (4 * width, width)), ("mlp.c_proj.", (width, 4 * width))):
            clip[f"{p}{name}weight"], clip[f"{p}{name}bias"] = rand(shape) / shape[1] ** 0.5, rand(shape[0]) / 10
        for name in ("ln_1.", "ln_2."):
            clip[f"{p}{name}weight"], clip[f"{p}{name}bias"] = 1 + rand(width) / 10, rand(width) / 10


clip["visual.class_embedding"], clip["visual.positional_embedding"] = rand(WIDTH), rand(5, WIDTH)
clip["visual.conv1.weight"], clip["visual.proj"] = rand(WIDTH, 3, PATCH, PATCH) / 7, rand(WIDTH, EMBED) / 4
clip["token_embedding.weight"], clip["positional_embedding"] = rand(VOCABULARY, TEXT), rand(CONTEXT, TEXT)
clip["text_projection"] = rand(TEXT, EMBED) / 3
for name, width in (("visual.ln_pre", WIDTH), ("visual.ln_post", WIDTH), ("ln_final", TEXT)):
    clip[f"{name}.weight"], clip[f"{name}.bias"] = 1 + rand(width) / 10, rand(width) / 10
transformer("visual.", WIDTH, 2)
transformer("", TEXT, 1)


def norm(x, name):
    return F.layer_norm(x, x.shape[-1:], clip[f"{name}.weight"], clip[f"{name}.bias"])


def blocks(x, prefix, layers, heads, mask):
    for i in range(layers):
        p = f"{prefix}transformer.resblocks.{i}."
        n, t, d = x.shape
        q, k, v = F.linear(norm(x, p + "ln_1"), clip[p + "attn.in_proj_weight"], clip[p + "attn.in_proj_bias"]).chunk(3, -1)
        q, k, v = (y.reshape(n, t, heads, d // heads).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=mask).transpose(1, 2).reshape(n, t, d)
        x = x + F.linear(y, clip[p + "attn.out_proj.weight"], clip[p + "attn.out_proj.bias"])
        y = F.gelu(F.linear(norm(x, p + "ln_2"), clip[p + "mlp.c_fc.weight"], clip[p + "mlp.c_fc.bias"]))
        x = x + F.linear(y, clip[p + "mlp.c_proj.weight"], clip[p + "mlp.c_proj.bias"])
    return x


image, tokens = rand(2, 3, SIDE, SIDE), torch.tensor([[30, 4, 5, 31, 0, 0, 0, 0], [30, 9, 31, 0, 0, 0, 0, 0]])
x = F.conv2d(image, clip["visual.conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
x = torch.cat([clip["visual.class_embedding"].expand(2, 1, -1), x], 1) + clip["visual.positional_embedding"]
x = blocks(norm(x, "visual.ln_pre"), "visual.", 2, HEADS, False)
expected["clip.image"], expected["clip.tokens"] = image, tokens
expected["clip.image_features"] = norm(x[:, 0], "visual.ln_post") @ clip["visual.proj"]
x = norm(blocks(clip["token_embedding.weight"][tokens] + clip["positional_embedding"], "", 1, TEXT_HEADS, True), "ln_final")
expected["clip.text_features"] = x[torch.arange(2), tokens.argmax(1)] @ clip["text_projection"]

folder = HERE / "open_clip"
folder.mkdir(exist_ok=True)
save_file(clip, folder / "open_clip_model.safetensors")
config = {
    "model_cfg": {
        "embed_dim": EMBED,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": TEXT, "heads": TEXT_HEADS, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
(folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")

# The same in the names of Hugging Face, in two files with an index.
hf = {"logit_scale": clip["logit_scale"]}
names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
single = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
}
for key, value in clip.items():
    if "resblocks" in key:
        tower = "vision_model" if key.startswith("visual.") else "text_model"
        i, rest = key.split("resblocks.")[1].split(".", 1)
        base = f"{tower}.encoder.layers.{i}."
        if "in_proj" in rest:
            for part, piece in zip("qkv", value.chunk(3)):
                hf[f"{base}self_attn.{part}_proj.{rest.rsplit('_', 1)[1]}"] = piece.clone()
        else:
            name, end = rest.rsplit(".", 1)
            hf[f"{base}{names[name]}.{end}"] = value
    elif key in single:
        hf[single[key]] = value.T.contiguous() if key in ("visual.proj", "text_projection") else value
    elif key != "logit_scale":
        name, end = key.rsplit(".", 1)
        tower = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
        hf[f"{tower.get(name, 'text_model.final_layer_norm')}.{end}"] = value
folder = HERE / "hf_sharded"
folder.mkdir(exist_ok=True)
parts = {f"model-0000{i + 1}-of-00002.safetensors": dict(list(hf.items())[i::2]) for i in (0, 1)}
for name, part in parts.items():
    save_file(part, folder / name, metadata={"format": "pt"})
index = {"metadata": {"total_size": sum(v.nbytes for v in hf.values())}, "weight_map": {k: n for n, p in parts.items() for k in p}}
(folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
towers = {
    "text_config": {"num_attention_heads": TEXT_HEADS, "hidden_act": "gelu"},
    "vision_config": {"num_attention_heads": HEADS, "hidden_act": "gelu", "image_size": SIDE},
}
(folder / "config.json").write_text(json.dumps(towers, indent=1) + "\n")


# Encoders with a generator: {state_dict, latent_avg, opts}.
def batch_norm(e, name, n):
    e[f"{name}.weight"], e[f"{name}.bias"], e[f"{name}.running_mean"] = rand(n), rand(n), rand(n)
    e[f"{name}.running_var"], e[f"{name}.num_batches_tracked"] = 1 + rand(n) ** 2, torch.tensor(7)


def heads(e, width):
    for i in range(8):
        for j, inside in ((0, width), (2, D)):
            e[f"styles.{i}.convs.{j}.weight"], e[f"styles.{i}.convs.{j}.bias"] = rand(D, inside, 3, 3), rand(D)
        e[f"styles.{i}.linear.weight"], e[f"styles.{i}.linear.bias"] = rand(D, D), rand(D)


def ir_se(inputs, pyramid):
    e = {"input_layer.0.weight": rand(2, inputs, 3, 3), "input_layer.2.weight": rand(2)}
    batch_norm(e, "input_layer.1", 2)
    width = 2
    for i, out in enumerate((2, 3, 3, 4, 5)):
        b = f"body.{i}."
        if out != width:
            e[f"{b}shortcut_layer.0.weight"] = rand(out, width, 1, 1)
            batch_norm(e, f"{b}shortcut_layer.1", out)
        batch_norm(e, f"{b}res_layer.0", width)
        e[f"{b}res_layer.1.weight"], e[f"{b}res_layer.2.weight"] = rand(out, width, 3, 3), rand(out)
        e[f"{b}res_layer.3.weight"] = rand(out, out, 3, 3)
        batch_norm(e, f"{b}res_layer.4", out)
        e[f"{b}res_layer.5.fc1.weight"], e[f"{b}res_layer.5.fc2.weight"] = rand(1, out, 1, 1), rand(out, 1, 1, 1)
        width = out
    heads(e, D if pyramid else width)
    if pyramid:
        for i, inside in ((1, 4), (2, 3)):
            e[f"latlayer{i}.weight"], e[f"latlayer{i}.bias"] = rand(D, inside, 1, 1), rand(D)
    return e


def resnet(inputs):
    e = {"conv1.weight": rand(2, inputs, 7, 7), "relu.weight": rand(2)}
    batch_norm(e, "bn1", 2)
    width = 2
    for i, out in enumerate((2, 3)):
        b = f"body.{i}."
        if out != width:
            e[f"{b}downsample.0.weight"] = rand(out, width, 1, 1)
            batch_norm(e, f"{b}downsample.1", out)
        for j, inside in ((1, width), (2, out)):
            e[f"{b}conv{j}.weight"] = rand(out, inside, 3, 3)
            batch_norm(e, f"{b}bn{j}", out)
        width = out
    heads(e, width)
    return e


opts = dict(encoder_type="Encoder4Editing", start_from_latent_avg=True, learning_rate=0.0001, output_size=32, stylegan_weights=None)
opts |= dict(exp_dir=pathlib.PurePosixPath("out"), device="cuda:0", progressive_steps=[0, 20000])
for name, encoder, opts, old in (
    ("e4e.pt", ir_se(3, True), opts, False),
    ("psp.pt", ir_se(3, True), argparse.Namespace(**opts | dict(encoder_type="GradualStyleEncoder")), True),
    ("restyle_e4e.pt", ir_se(6, False), opts | dict(encoder_type="ProgressiveBackboneEncoder", n_iters_per_batch=5), True),
    ("restyle_psp_resnet.pt", resnet(6), opts | dict(encoder_type="ResNetBackboneEncoder", n_iters_per_batch=5), True),
):
    state = {f"encoder.{k}": v for k, v in encoder.items()} | {f"decoder.{k}": v for k, v in g.items()}
    data = {"state_dict": state, "latent_avg": latent_avg.repeat(8, 1), "opts": opts}
    torch.save(data, HERE / name, _use_new_zipfile_serialization=not old)

# numpy: as NVIDIA's projector writes it, and compressed with several arrays.
np.savez(HERE / "projected_w.npz", w=rand(1, 8, D).numpy())
arrays = dict(z=np.arange(8, dtype="<f4").reshape(2, 4) / 7, half=np.ones(3, "<f2"), fortran=np.asfortranarray(np.arange(6.0).reshape(2, 3)))
np.savez_compressed(HERE / "arrays.npz", **arrays)

save_file({key: value.contiguous().clone() for key, value in expected.items()}, HERE / "expected.safetensors")
