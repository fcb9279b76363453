"""Loads generators that `nada convert` wrote with the real torch, and compares them with the safetensors file of the same generator.

    python tests/convert.py FILE.pt FILE.pkl FILE.safetensors [FOLDER with rosinality's tiny64.pt and config.json]
    python tests/convert.py FILE.pkl ORIGINAL.pkl

The second form compares a pickle with the one of NVIDIA's code that it was made from: tensors, classes and attributes.

torch_utils.persistence, dnnlib.util and training.networks are stand-ins that do what the format needs: a persistent object is made from the
text in its file, which finds the classes, and gets its state.
"""
import json, pathlib, pickle, struct, sys, types
import torch


def stand_ins():
    def module(name, **attributes):
        made = types.ModuleType(name)
        made.__dict__.update(attributes)
        sys.modules[name] = made
        return made

    names = ["Generator", "MappingNetwork", "SynthesisNetwork", "SynthesisBlock", "SynthesisLayer", "ToRGBLayer", "FullyConnectedLayer"]
    classes = {name: type(name, (torch.nn.Module,), {}) for name in names}

    def reconstruct(meta):
        assert meta["type"] == "class" and meta["version"] == 6, meta
        source = types.ModuleType("source")
        exec(meta["module_src"], source.__dict__)
        # The reference data has no source in it.
        made = source.__dict__.get(meta["class_name"]) or type(meta["class_name"], (torch.nn.Module,), {})
        thing = made.__new__(made)
        thing.__setstate__(meta["state"])
        return thing

    module("torch_utils").persistence = module("torch_utils.persistence", _reconstruct_persistent_obj=reconstruct)
    easy_dict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    module("dnnlib").util = module("dnnlib.util", EasyDict=easy_dict)
    module("training").networks = module("training.networks", **classes)
    return classes


def safetensors(path):
    data = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    out = {}
    for key, info in json.loads(data[8 : 8 + n]).items():
        if key != "__metadata__":
            begin, end = (8 + n + x for x in info["data_offsets"])
            out[key] = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32).reshape(info["shape"])
    return out


def ada_name(key):
    """The name in stylegan2-ada-pytorch of a tensor of rosinality's."""
    part = key.split(".")
    if part[0] == "style":
        return f"mapping.fc{int(part[1]) - 1}.{part[2]}"
    if key == "latent_avg":
        return "mapping.w_avg"
    if key == "input.input":
        return "synthesis.b4.const"
    if part[0] == "noises":
        i = int(part[1].split("_")[1])
        return f"synthesis.b{4 << (i + 1) // 2}.conv{0 if i % 2 else 1}.noise_const"
    if part[0] in ("convs", "to_rgbs"):
        i = int(part[1])
        block, rest = (f"b{8 << i // 2}.conv{i % 2}", part[2:]) if part[0] == "convs" else (f"b{8 << i}.torgb", part[2:])
    else:
        block, rest = ("b4.conv1" if part[0] == "conv1" else "b4.torgb"), part[1:]
    rest = ".".join(rest)
    if rest.endswith("kernel"):
        return None  # resample_filter, a quarter of it
    names = {"conv.weight": "weight", "conv.modulation.weight": "affine.weight", "conv.modulation.bias": "affine.bias"}
    names |= {"noise.weight": "noise_strength", "activate.bias": "bias", "bias": "bias"}
    return f"synthesis.{block}.{names[rest]}"


def attributes(module, prefix=""):
    """Class, tensors' properties and attributes of a module and those in it. numpy's numbers count as Python's."""
    out = {prefix + "class": type(module).__name__}
    for key, value in module.__dict__.items():
        if key in ("_parameters", "_buffers"):
            for name, t in value.items():
                out[prefix + name] = (key, type(t).__name__, t.shape, t.stride(), t.dtype, t.requires_grad)
        elif key != "_modules":
            out[prefix + key] = float(value) if isinstance(value, float) else value
    for name, child in module._modules.items():
        out |= attributes(child, f"{prefix}{name}.")
    return out


def same_network(written, original):
    stand_ins()
    a, b = (pickle.load(open(path, "rb"))["G_ema"] for path in (written, original))
    tensors = b.state_dict()
    assert a.state_dict().keys() == tensors.keys()
    for key, tensor in a.state_dict().items():
        assert torch.equal(tensor, tensors[key]), key
    a, b = attributes(a), attributes(b)
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    # Everything is computed in f32 here.
    different = {key for key in a if a[key] != b[key] and not key.endswith("use_fp16")}
    for key in list(different):
        if key.endswith("_init_kwargs"):
            x, y = (json.loads(json.dumps(d[key])) for d in (a, b))
            for d in (x, y):
                d.pop("use_fp16", None)
                d.pop("num_fp16_res", None)
                d.get("synthesis_kwargs", {}).pop("num_fp16_res", None)
            if x == y:
                different.remove(key)
    assert not different, {key: (a[key], b[key]) for key in different}
    print(f"{written}: {len(tensors)} tensors and {len(a)} attributes are those of the original")


def main():
    if len(sys.argv) == 3:
        return same_network(*sys.argv[1:])
    pt, pkl, plain = sys.argv[1:4]
    want = safetensors(plain)

    have = torch.load(pt, weights_only=True)
    g_ema = have["g_ema"]
    assert set(have) == {"g_ema", "latent_avg"}, have.keys()
    assert set(g_ema) | {"latent_avg"} == set(want), set(g_ema) ^ set(want)
    for key, tensor in want.items():
        assert torch.equal(have[key] if key == "latent_avg" else g_ema[key], tensor), key
    print(f"{pt}: {len(want)} tensors are equal")
    if len(sys.argv) > 4:
        folder = pathlib.Path(sys.argv[4])
        original = torch.load(folder / "tiny64.pt", weights_only=True)
        assert {k: list(v.shape) for k, v in g_ema.items()} == json.loads((folder / "config.json").read_text())["keys"]
        assert g_ema.keys() == original["g_ema"].keys() and all(torch.equal(v, original["g_ema"][k]) for k, v in g_ema.items())
        print(f"{pt}: has the keys of config.json, and is equal to tiny64.pt")

    classes = stand_ins()
    with open(pkl, "rb") as file:
        data = pickle.load(file)
    assert set(data) == {"training_set_kwargs", "G", "D", "G_ema", "augment_pipe"}, data.keys()
    assert data["G"] is data["G_ema"] and type(data["G_ema"]) is classes["Generator"] and isinstance(data["D"], torch.nn.Module)
    tensors = data["G_ema"].state_dict()
    names = {ada_name(key): tensor for key, tensor in want.items()}
    filters = [key for key in tensors if key.endswith("resample_filter")]
    assert set(tensors) - set(filters) == set(names) - {None}, set(tensors) ^ set(names)
    for key, tensor in tensors.items():
        expected = want["convs.0.conv.blur.kernel"] / 4 if key in filters else names[key].reshape(tensor.shape)
        assert torch.equal(tensor, expected) and tensor.is_contiguous(), key
    data["G_ema"].eval().requires_grad_(False).to("cpu")  # what a loader does next
    print(f"{pkl}: {len(tensors)} tensors are equal, {sum(1 for _ in data['G_ema'].modules())} modules")


main()
