"""Networks in the pickles of NVIDIA's trainers: each module is a call of torch_utils.persistence._reconstruct_persistent_obj with a dict
of its source text (empty here), its class' name and its attributes; tensors are embedded as torch.storage._load_from_bytes(bytes)."""
import collections
import pickle
import sys
import types

import torch


def _reconstruct_persistent_obj(meta):
    return Module(meta)


class Module:
    def __init__(self, meta):
        self.meta = meta

    def __reduce__(self):
        return (_reconstruct_persistent_obj, (self.meta,))


class EasyDict(dict):
    pass


# The names that the pickles have.
for path, member in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
    package, _, _ = path.partition(".")
    sys.modules.setdefault(package, types.ModuleType(package))
    sys.modules[path] = types.ModuleType(path)
    setattr(sys.modules[path], member.__name__, member)
    member.__module__ = path


def module(class_name, parameters=(), buffers=(), modules=(), args=(), kwargs=(), **attributes):
    """With the attributes that a torch.nn.Module had in PyTorch 1.7."""
    state = {
        "training": False,
        "_parameters": {k: torch.nn.Parameter(v.float(), requires_grad=False) for k, v in dict(parameters).items()},
        "_buffers": {k: v.float() for k, v in dict(buffers).items()},
        "_non_persistent_buffers_set": set(),
    }
    for hooks in ("_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks"):
        state[hooks] = collections.OrderedDict()
    state |= {"_modules": dict(modules), **attributes, "_init_args": tuple(args), "_init_kwargs": EasyDict(dict(kwargs))}
    return Module({"type": "class", "version": 6, "module_src": "", "class_name": class_name, "state": state})


def state_dict(network, prefix=""):
    """All tensors of a module, by their full names."""
    state = network.meta["state"]
    out = {prefix + k: v.detach() for part in ("_parameters", "_buffers") for k, v in state[part].items() if v is not None}
    for name, inner in state["_modules"].items():
        out |= state_dict(inner, f"{prefix}{name}.")
    return out


def load(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def save(path, value):
    with open(path, "wb") as file:
        pickle.dump(value, file, protocol=3)


def linear(t, name, activation="linear", rate=1.0):
    weight = t[f"{name}.weight"]
    outputs, inputs = weight.shape
    return module(
        "FullyConnectedLayer", {"weight": weight, "bias": t[f"{name}.bias"]}, args=(inputs, outputs),
        kwargs={"activation": activation, "lr_multiplier": rate} if rate != 1 else {"bias_init": 1},
        activation=activation, weight_gain=rate / inputs**0.5, bias_gain=rate,
    )


def generator(t, z_dim, w_dim, channels):
    """Of the tensors `t` (synthesis.b8.conv0.weight, ...) with `channels` by resolution; blocks in float32, no clamp."""
    size, filter_ = max(channels), t["synthesis.b4.resample_filter"]
    rows = 2 * len(channels)
    blocks = {}
    for i, (side, outputs) in enumerate(channels.items()):
        inputs = channels[side // 2] if i else 0
        name = f"synthesis.b{side}"
        layers = {}
        for conv in ("conv0", "conv1") if i else ("conv1",):
            key, up = f"{name}.{conv}", 2 if conv == "conv0" else 1
            fan = inputs if conv == "conv0" else outputs
            layers[conv] = module(
                "SynthesisLayer", {part: t[f"{key}.{part}"] for part in ("weight", "noise_strength", "bias")},
                {"resample_filter": filter_, "noise_const": t[f"{key}.noise_const"]}, {"affine": linear(t, f"{key}.affine")},
                (fan, outputs), {"w_dim": w_dim, "resolution": side, "up": up},
                resolution=side, up=up, use_noise=True, activation="lrelu", conv_clamp=None, padding=1, act_gain=2**0.5,
            )
        key = f"{name}.torgb"
        layers["torgb"] = module(
            "ToRGBLayer", {"weight": t[f"{key}.weight"], "bias": t[f"{key}.bias"]}, (), {"affine": linear(t, f"{key}.affine")},
            (outputs, 3), {"w_dim": w_dim}, conv_clamp=None, weight_gain=outputs**-0.5,
        )
        last = side == size
        blocks[f"b{side}"] = module(
            "SynthesisBlock", {} if i else {"const": t[f"{name}.const"]}, {"resample_filter": filter_}, layers, (inputs, outputs),
            {"w_dim": w_dim, "resolution": side, "img_channels": 3, "is_last": last, "use_fp16": False},
            in_channels=inputs, w_dim=w_dim, resolution=side, img_channels=3, is_last=last, architecture="skip", use_fp16=False,
            channels_last=False, num_conv=len(layers) - 1, num_torgb=1,
        )
    image = {"img_resolution": size, "img_channels": 3}
    synthesis = module(
        "SynthesisNetwork", modules=blocks, kwargs={"w_dim": w_dim, **image}, w_dim=w_dim, **image,
        img_resolution_log2=size.bit_length() - 1, block_resolutions=list(channels), num_ws=rows,
    )
    mlp, rate = {}, 0.01
    while f"mapping.fc{len(mlp)}.weight" in t:
        mlp[f"fc{len(mlp)}"] = linear(t, f"mapping.fc{len(mlp)}", "lrelu", rate)
    sizes = {"z_dim": z_dim, "c_dim": 0, "w_dim": w_dim, "num_ws": rows, "num_layers": len(mlp)}
    mapping = module("MappingNetwork", (), {"w_avg": t["mapping.w_avg"]}, mlp, (), sizes, **sizes, w_avg_beta=0.995)
    both = {"z_dim": z_dim, "c_dim": 0, "w_dim": w_dim, **image}
    return module(
        "Generator", modules={"synthesis": synthesis, "mapping": mapping},
        kwargs={**both, "mapping_kwargs": EasyDict(num_layers=len(mlp)), "synthesis_kwargs": EasyDict()}, **both, num_ws=rows,
    )


def network_file(g):
    return {"training_set_kwargs": None, "G": g, "D": module("Discriminator"), "G_ema": g, "augment_pipe": None}
