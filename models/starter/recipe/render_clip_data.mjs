// COUNT renders of each style at 64 px for the CLIPs, with the attributes that the avatar library chose.
// usage: node render_clip_data.mjs COUNT SEED
// writes data/cSEED.rgb.u8 [COUNT * styles, 64, 64, 3] and data/cSEED.jsonl
import { createAvatar } from '@dicebear/core';
import { Resvg } from '@resvg/resvg-js';
import fs from 'fs';

const STYLES = [
  'adventurer', 'big-ears', 'big-smile', 'lorelei', 'micah', 'miniavs', 'notionists', 'open-peeps', 'personas', 'pixel-art',
  'toon-head', 'croodles', 'dylan', 'fun-emoji', 'thumbs',
];
const BACKGROUNDS = ['b6d8f2', 'f6dcc0', 'cfe8c6', 'f3cfdc', 'd9d0f0', 'd6d9dc', 'f6edb4', 'a8dcd6', 'ffffff'];
const SIZE = 64;

const count = +process.argv[2];
const seed = process.argv[3];
const out = 'data/c' + seed;
fs.mkdirSync('data', { recursive: true });
const pixelFile = fs.openSync(out + '.rgb.u8', 'w');
const lineFile = fs.openSync(out + '.jsonl', 'w');
const modules = {};
for (const s of STYLES) modules[s] = await import('@dicebear/' + s);

const begin = Date.now();
let n = 0;
for (let i = 0; i < count; i++) {
  for (const s of STYLES) {
    const options = { seed: seed + '-' + i, size: SIZE };
    if (!['fun-emoji', 'thumbs'].includes(s)) options.backgroundColor = BACKGROUNDS;
    if (s === 'toon-head') {
      // The framing of render_generator_data.mjs.
      options.scale = 118;
      options.translateY = 3;
    }
    for (const key in modules[s].schema.properties) {
      if (/^(glasses|accessories|beard|facialHair|mustache)Probability$/.test(key)) options[key] = 35;
    }
    const avatar = createAvatar(modules[s], options);
    const rgba = new Resvg(avatar.toString(), { font: { loadSystemFonts: false }, background: 'white' }).render().pixels;
    const rgb = Buffer.alloc(SIZE * SIZE * 3);
    for (let p = 0; p < SIZE * SIZE; p++) {
      rgb[p * 3] = rgba[p * 4];
      rgb[p * 3 + 1] = rgba[p * 4 + 1];
      rgb[p * 3 + 2] = rgba[p * 4 + 2];
    }
    fs.writeSync(pixelFile, rgb);
    fs.writeSync(lineFile, JSON.stringify({ s, ...avatar.toJson().extra }) + '\n');
    n++;
    if (n % 2000 === 0) console.log(n, ((n / (Date.now() - begin)) * 1000).toFixed(0) + '/s');
  }
}
console.log('done', n);
