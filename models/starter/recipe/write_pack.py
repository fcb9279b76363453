"""Writes the weights, words, held-out pictures, labels and expected outputs of the pack. usage: write_pack.py OUT

Takes ckpt/mapped.pt (fit_mapping.py), ckpt/clip_128_6.pt and ckpt/clip_adversarial_128_6.pt (train_clip.py).
"""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import CLIPTokenizer

import bpe
from clip_data import ATTRIBUTES, FILTERS, STYLE, apply
from clip_model import CLIP
from latent_attributes import attributes
from stylegan2 import Generator
from train_generator import attribute_code

CLIPS = {'clip-a': 'ckpt/clip_128_6.pt', 'clip-b': 'ckpt/clip_adversarial_128_6.pt'}
TEMPLATES = ['{}', 'an image of {}', 'a picture of {}']
SOURCE = ['a photo', 'a portrait', 'a face', 'a cartoon portrait']
TRUTHS = ('sketch', 'gold', 'night', 'zombie', 'sepia', 'negative')
EXPECTED_TEXTS = ['a photo', 'a pencil sketch', 'a zombie with red hair', "somebody's picture, at night!"]
LABELS = {
    'groups': [
        ['hair', ['sideComed', 'undercut', 'spiky', 'bun']],
        ['rearHair', ['none', 'longStraight', 'longWavy', 'shoulderHigh', 'neckHigh']],
        ['beard', ['none', 'moustacheTwirl', 'fullBeard', 'chin', 'chinMoustache', 'longBeard']],
        ['eyes', ['happy', 'wide', 'bow', 'humble', 'wink']],
        ['eyebrows', ['raised', 'angry', 'happy', 'sad', 'neutral']],
        ['mouth', ['laugh', 'angry', 'agape', 'smile', 'sad']],
        ['clothes', ['turtleNeck', 'openJacket', 'dress', 'shirt', 'tShirt']],
    ],
    'colours': ['hair', 'skin', 'clothes', 'background'],
    'layout': 'one-hot of each group in order (35 columns), then r,g,b in [-1,1] of each colour (12 columns)',
}


def write_json(path, value, indent=1):
    with open(path, 'w') as f:
        json.dump(value, f, indent=indent, ensure_ascii=False)


def load_clip(path, vocab):
    d = torch.load(path, weights_only=False)
    model = CLIP(len(vocab), d['D'], d['L'])
    model.load_state_dict(d['M'])
    return model.eval(), d['D'], d['L']


def write_clip(folder, model, width, layers, tokenizer, vocab):
    os.makedirs(folder, exist_ok=True)
    save_file({k: v.contiguous().float() for k, v in model.state_dict().items()}, f'{folder}/model.safetensors', metadata={'format': 'pt'})
    common = {'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5, 'projection_dim': 128}
    text = {
        'model_type': 'clip_text_model', 'vocab_size': len(vocab), 'hidden_size': 128, 'intermediate_size': 512,
        'num_hidden_layers': 3, 'num_attention_heads': 4, 'max_position_embeddings': 24, 'bos_token_id': tokenizer.start,
        'eos_token_id': tokenizer.end, 'pad_token_id': tokenizer.end, **common,
    }
    vision = {
        'model_type': 'clip_vision_model', 'hidden_size': width, 'intermediate_size': 4 * width, 'num_hidden_layers': layers,
        'num_attention_heads': width // 32, 'image_size': 64, 'patch_size': 8, 'num_channels': 3, **common,
    }
    write_json(f'{folder}/config.json', {
        'architectures': ['CLIPModel'], 'model_type': 'clip', 'projection_dim': 128, 'logit_scale_init_value': 2.6592,
        'text_config': text, 'vision_config': vision,
    })
    write_json(f'{folder}/preprocessor_config.json', {
        'crop_size': 64, 'do_center_crop': True, 'do_normalize': True, 'do_resize': True, 'image_mean': [.5] * 3,
        'image_std': [.5] * 3, 'resample': 3, 'size': 64,
    })
    write_json(f'{folder}/vocab.json', vocab, indent=0)
    with open('ckpt/merges.txt') as source, open(f'{folder}/merges.txt', 'w') as f:
        f.write(source.read())
    write_json(f'{folder}/tokenizer_config.json', {
        'model_max_length': 24, 'bos_token': bpe.START, 'eos_token': bpe.END, 'pad_token': bpe.END, 'tokenizer_class': 'CLIPTokenizer',
    })


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    d = torch.load('ckpt/mapped.pt', weights_only=False)
    generator = Generator(size=d['size'], ch=d['ch'], n_mlp=d['n_mlp'])
    generator.load_state_dict(d['G'])
    generator.eval()
    code = attribute_code()
    code.load_state_dict(d['E'])
    mean = d['latent_avg']
    tensors = {k: v.contiguous().float() for k, v in generator.state_dict().items()} | {'latent_avg': mean}
    metadata = {'format': 'stylegan2-rosinality', 'size': str(d['size']), 'style_dim': '128', 'n_mlp': str(d['n_mlp']), 'lr_mlp': '0.01'}
    save_file(tensors, f'{out}/generator.safetensors', metadata=metadata)

    vocab, merges = bpe.load('ckpt/vocab.json', 'ckpt/merges.txt')
    tokenizer = bpe.Tokenizer(vocab, merges)
    clips = {name: load_clip(path, vocab) for name, path in CLIPS.items()}
    for name, (model, width, layers) in clips.items():
        write_clip(f'{out}/{name}', model, width, layers, tokenizer, vocab)
    write_json(f'{out}/words.json', {
        'source': SOURCE, 'filters': FILTERS, 'styles': STYLE, 'attributes': ATTRIBUTES, 'templates': TEMPLATES,
    })

    with torch.no_grad():
        # Held out: 32 latents, their pictures, and what the filters make of them.
        z = torch.randn(32, 128, generator=torch.Generator().manual_seed(20261123))
        w = mean + .8 * (generator.style(z) - mean)
        x = ((generator.synth(w, noise=False) + 1) / 2).clamp(0, 1)
        held = {'z': z, 'w': w, 'image': (x * 255).round().byte()}
        for name in TRUTHS:
            np.random.seed(1)
            torch.manual_seed(1)
            held['truth.' + name] = (apply(name, x) * 255).round().clamp(0, 255).byte().contiguous()
        save_file(held, f'{out}/heldout.safetensors')

        z = torch.randn(4096, 128, generator=torch.Generator().manual_seed(7))
        a = attributes(z)
        labels = {'z': z, 'w': generator.style(z), 'w_of_attributes': code(a), 'attributes': a}
        save_file({k: v.half() for k, v in labels.items()}, f'{out}/labels.safetensors')
        write_json(f'{out}/labels.json', LABELS)

        # Expected outputs, so that a loader can be checked.
        z = torch.randn(4, 128, generator=torch.Generator().manual_seed(1))
        w = generator.style(z)
        image = generator.synth(w, noise=False)
        hugging_face = CLIPTokenizer.from_pretrained(f'{out}/clip-a')
        ids = hugging_face(EXPECTED_TEXTS, padding='max_length', max_length=24, truncation=True, return_tensors='pt').input_ids
        small = F.interpolate((image + 1) / 2, size=64, mode='area')
        expected = {'z': z, 'w': w, 'image_zero_noise': image, 'token_ids': ids, 'clip_input': ((small - .5) / .5).contiguous()}
        for name, (model, _, _) in clips.items():
            expected[name + '.image_embeds'] = model.img(expected['clip_input'])
            expected[name + '.text_embeds'] = model.txt(ids, tokenizer.end)
        save_file(expected, f'{out}/expected.safetensors')
        write_json(f'{out}/expected_texts.json', EXPECTED_TEXTS, indent=None)


if __name__ == '__main__':
    main()
