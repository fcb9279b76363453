"""Writes a generator that make_checkpoint.py fills in rosinality's layout as NVIDIA's pickle: G, D, G_ema as in a training's snapshot.

    python full_size_pickle.py REFERENCE SIZE OUT.pkl

REFERENCE is the folder of make_checkpoint.py; SIZE is 256 or 1024. G_ema has the numbers of rosinality_g_ema_SIZE, so that its pictures
are known; G has others; D is rosinality_d_1024. Names are those of the manifest ada_G_ema_SIZE, which is checked.
"""

import json
import pickle
import sys
import types

import torch

reference, size, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, reference)
from make_checkpoint import checkpoint  # noqa: E402

BUFFERS = ("resample_filter", "noise_const", "w_avg")


def filled(name):
    return {key: torch.from_numpy(value.copy()) for key, value in checkpoint(f"{reference}/manifests/{name}.json")[0].items()}


def nvidia(g):
    """The tensors of a generator by NVIDIA's names and shapes."""
    t = {"mapping.w_avg": g["latent_avg"], "synthesis.b4.const": g["input.input"][0]}
    for i in range(1, 9):
        for part in ("weight", "bias"):
            t[f"mapping.fc{i - 1}.{part}"] = g[f"style.{i}.{part}"]
    blocks = size.bit_length() - 2
    names = {"conv1": "b4.conv1", "to_rgb1": "b4.torgb"}
    for i in range(blocks - 1):
        r = 8 << i
        names |= {f"convs.{2 * i}": f"b{r}.conv0", f"convs.{2 * i + 1}": f"b{r}.conv1", f"to_rgbs.{i}": f"b{r}.torgb"}
    k = torch.tensor([1.0, 3.0, 3.0, 1.0])
    for i, (ours, theirs) in enumerate((o, n) for o, n in names.items() if not o.startswith("to_rgb")):
        t[f"synthesis.{theirs}.noise_const"] = g[f"noises.noise_{i}"][0, 0]
        t[f"synthesis.{theirs}.noise_strength"] = g[f"{ours}.noise.weight"][0]
        t[f"synthesis.{theirs}.bias"] = g[f"{ours}.activate.bias"]
        t[f"synthesis.{theirs}.resample_filter"] = torch.outer(k, k) / 64
    for ours, theirs in names.items():
        t[f"synthesis.{theirs}.weight"] = g[f"{ours}.conv.weight"][0]
        t[f"synthesis.{theirs}.affine.weight"] = g[f"{ours}.conv.modulation.weight"]
        t[f"synthesis.{theirs}.affine.bias"] = g[f"{ours}.conv.modulation.bias"]
        if ours.startswith("to_rgb"):
            t[f"synthesis.{theirs}.bias"] = g[f"{ours}.bias"].reshape(3)
    for i in range(blocks):
        t[f"synthesis.b{4 << i}.resample_filter"] = torch.outer(k, k) / 64
    manifest = json.load(open(f"{reference}/manifests/ada_G_ema_{size}.json"))["tensors"]
    assert set(manifest) == set(t), set(manifest) ^ set(t)
    return t


def _reconstruct_persistent_obj(meta):
    raise NotImplementedError


for name in ("torch_utils", "torch_utils.persistence"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Module:
    """A module with all that lies below it by dotted key."""

    def __init__(self, name, tensors, **attributes):
        own = {key: value for key, value in tensors.items() if "." not in key}
        below = {}
        for key, value in tensors.items():
            if "." in key:
                first, rest = key.split(".", 1)
                below.setdefault(first, {})[rest] = value
        parameters = {key: torch.nn.Parameter(value.clone()) for key, value in own.items() if key not in BUFFERS}
        buffers = {key: value.clone() for key, value in own.items() if key in BUFFERS}
        modules = {key: Module("Module", value) for key, value in below.items()}
        state = {"training": False, "_parameters": parameters, "_buffers": buffers, "_modules": modules, **attributes}
        self.meta = dict(type="class", version=6, module_src="# text\n" * 8000, class_name=name, state=state)

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,)


g_ema = filled(f"rosinality_g_ema_{size}")
g = {key: value * 0.5 for key, value in g_ema.items()}
networks = {
    "training_set_kwargs": {"path": "data.zip", "resolution": size},
    "G": Module("Generator", nvidia(g), z_dim=512, c_dim=0, img_resolution=size),
    "D": Module("Discriminator", filled("rosinality_d_1024")),
    "G_ema": Module("Generator", nvidia(g_ema), z_dim=512, c_dim=0, img_resolution=size),
    "augment_pipe": None,
}
with open(out, "wb") as file:
    pickle.dump(networks, file, protocol=3)
