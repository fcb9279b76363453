// Renders of one style (toon-head) whose attributes are chosen by z.
// usage: node render_generator_data.mjs COUNT SEED OUT SIZE
// writes OUT.z.f32 [COUNT, 128], OUT.a.f32 [COUNT, 47] (one-hot groups, then 4 colours as RGB in [-1, 1]),
// OUT.rgb.u8 [COUNT, SIZE, SIZE, 3] and OUT.jsonl (the attributes by name)
import { createAvatar } from '@dicebear/core';
import * as toonHead from '@dicebear/toon-head';
import { Resvg } from '@resvg/resvg-js';
import fs from 'fs';

const count = +process.argv[2];
const seed = process.argv[3];
const out = process.argv[4];
const size = +(process.argv[5] || 64);
const Z_DIM = 128;

const GROUPS = {
  hair: ['sideComed', 'undercut', 'spiky', 'bun'],
  rearHair: ['none', 'longStraight', 'longWavy', 'shoulderHigh', 'neckHigh'],
  beard: ['none', 'moustacheTwirl', 'fullBeard', 'chin', 'chinMoustache', 'longBeard'],
  eyes: ['happy', 'wide', 'bow', 'humble', 'wink'],
  eyebrows: ['raised', 'angry', 'happy', 'sad', 'neutral'],
  mouth: ['laugh', 'angry', 'agape', 'smile', 'sad'],
  clothes: ['turtleNeck', 'openJacket', 'dress', 'shirt', 'tShirt'],
};
// Added to a choice's number before the largest wins: most heads have no beard.
const BIAS = { 'rearHair.none': 0.8, 'beard.none': 1.6 };
const PALETTES = {
  hairColor: {
    black: '1d1614', 'dark brown': '4a312c', brown: '724133', auburn: 'a55728', blond: 'd6b370', white: 'e8e1e1', red: 'c93305',
    pink: 'f08aa8', blue: '3f6fd0', green: '3ea04c',
  },
  skinColor: { fair: 'f8d8c0', light: 'f1c3a5', tan: 'c68e7a', olive: 'b98e6a', brown: 'a36b4f', dark: '5c3829' },
  clothesColor: {
    gray: '545454', red: 'b11f1f', navy: '0b3286', green: '147f3c', yellow: 'eab308', purple: '731ac3', pink: 'ec4899',
    orange: 'f97316', black: '151613', white: 'e8e9e6',
  },
  backgroundColor: {
    blue: 'b6d8f2', peach: 'f6dcc0', green: 'cfe8c6', pink: 'f3cfdc', lilac: 'd9d0f0', gray: 'd6d9dc', yellow: 'f6edb4', teal: 'a8dcd6',
  },
};

// mulberry32 from the low half of a mixed seed
const mixed = (BigInt(+seed) * 2654435761n + 12345n) & ((1n << 64n) - 1n);
let state = Number(mixed & 0xffffffffn) >>> 0;
function uniform() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const gauss = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
const channels = (hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));

// The attributes of z by name, and as numbers. latent_attributes.py repeats this.
function attributes(z) {
  let square = 0;
  for (const v of z) square += v * v;
  const length = Math.sqrt(square / z.length);
  let k = 0;
  const named = {};
  const numbers = [];
  for (const group in GROUPS) {
    let best = 0;
    let largest = -1e9;
    GROUPS[group].forEach((name, i) => {
      const score = z[k++] / length + (BIAS[group + '.' + name] || 0);
      if (score > largest) {
        largest = score;
        best = i;
      }
    });
    named[group] = GROUPS[group][best];
    GROUPS[group].forEach((_, i) => numbers.push(i === best ? 1 : 0));
  }
  for (const palette in PALETTES) {
    const names = Object.keys(PALETTES[palette]);
    const weights = names.map(() => Math.exp((4 * z[k++]) / length));
    const total = weights.reduce((a, b) => a + b);
    const rgb = [0, 0, 0];
    names.forEach((name, i) => channels(PALETTES[palette][name]).forEach((v, j) => (rgb[j] += (v * weights[i]) / total)));
    named[palette] = names[weights.indexOf(Math.max(...weights))];
    named[palette + 'Hex'] = rgb.map((v) => Math.round(v).toString(16).padStart(2, '0')).join('');
    rgb.forEach((v) => numbers.push(v / 127.5 - 1));
  }
  return [named, numbers];
}

function render(a) {
  const options = {
    size, scale: 118, translateY: 3, backgroundColor: [a.backgroundColorHex], hairColor: [a.hairColorHex], skinColor: [a.skinColorHex],
    clothesColor: [a.clothesColorHex], hair: [a.hair], hairProbability: 100, eyes: [a.eyes], eyebrows: [a.eyebrows], mouth: [a.mouth],
    clothes: [a.clothes], rearHairProbability: a.rearHair === 'none' ? 0 : 100, beardProbability: a.beard === 'none' ? 0 : 100,
  };
  if (a.rearHair !== 'none') options.rearHair = [a.rearHair];
  if (a.beard !== 'none') options.beard = [a.beard];
  const svg = createAvatar(toonHead, options).toString();
  return new Resvg(svg, { font: { loadSystemFonts: false }, background: 'white' }).render().pixels;
}

const files = ['.z.f32', '.a.f32', '.rgb.u8', '.jsonl'].map((end) => fs.openSync(out + end, 'w'));
const begin = Date.now();
for (let i = 0; i < count; i++) {
  const z = new Float32Array(Z_DIM).map(gauss);
  const [named, numbers] = attributes(z);
  const rgba = render(named);
  const rgb = Buffer.alloc(size * size * 3);
  for (let p = 0; p < size * size; p++) {
    rgb[p * 3] = rgba[p * 4];
    rgb[p * 3 + 1] = rgba[p * 4 + 1];
    rgb[p * 3 + 2] = rgba[p * 4 + 2];
  }
  fs.writeSync(files[0], Buffer.from(z.buffer));
  fs.writeSync(files[1], Buffer.from(new Float32Array(numbers).buffer));
  fs.writeSync(files[2], rgb);
  fs.writeSync(files[3], JSON.stringify(named) + '\n');
  if (i % 2000 === 1999) console.log(i + 1, (((i + 1) / (Date.now() - begin)) * 1000).toFixed(0) + '/s');
}
console.log('done', count);
